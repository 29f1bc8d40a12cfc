/**
 * Whether a server that is bound to a connection works: does what a client does at first, has a `ping` answered, and ends the session. That may start a
 * process, so it is not done in the background.
 */
import { AdapterError } from '../../../shared/errors.ts'
import { headerValue } from '../../../shared/frames/header-list.ts'
import { collectAnswer } from '../collect.ts'
import type { CollectedAnswer } from '../collect.ts'
import type { Upstream } from '../upstream.ts'

/** Largest answer, in bytes. */
const MAX_BYTES = 4_194_304
const TRIAL_ID = 'adapter-trial'
const INITIALIZE = {
  jsonrpc: '2.0',
  id: TRIAL_ID,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'remote-mcp-adapter', version: '0' },
  },
}
const INITIALIZED = { jsonrpc: '2.0', method: 'notifications/initialized' }
const PING = { jsonrpc: '2.0', id: TRIAL_ID, method: 'ping' }

/** Rejects with `AdapterError` when it does not. An answer that is an error is one. Each of both answers is waited for on its own. */
export async function tryBound(
  upstream: Upstream,
  limits: { readonly initializeTimeoutMs: number; readonly pingTimeoutMs: number },
): Promise<void> {
  const { headers } = await post(upstream, INITIALIZE, [], limits.initializeTimeoutMs)
  const id = headerValue(headers, 'mcp-session-id')
  if (id === undefined) return
  const session = ['mcp-session-id', id]
  try {
    await post(upstream, INITIALIZED, session, limits.pingTimeoutMs)
    await post(upstream, PING, session, limits.pingTimeoutMs)
  } finally {
    const request = { method: 'DELETE', headers: session, body: null, isSafe: true } as const
    // Nobody has to wait for that.
    collectAnswer(upstream, request, {
      timeoutMs: limits.initializeTimeoutMs,
      maxBytes: MAX_BYTES,
    }).catch(() => undefined)
  }
}

async function post(
  upstream: Upstream,
  message: object,
  session: readonly string[],
  timeoutMs: number,
): Promise<CollectedAnswer> {
  const headers = ['accept', 'application/json', 'content-type', 'application/json', ...session]
  const request = { method: 'POST', headers, body: JSON.stringify(message), isSafe: false } as const
  const answer = await collectAnswer(upstream, request, { timeoutMs, maxBytes: MAX_BYTES })
  // The session was lost as soon as it was there.
  if (answer.status === 404)
    throw new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', 'the upstream server ended a session')
  return answer
}
