/**
 * The cheapest question that every Streamable HTTP server answers, whatever its revision, and that makes nothing there: a `ping` for a session that does
 * not exist.
 *
 * - Without a session id, servers on the Python SDK (FastMCP) open a session for whatever comes, and keep it; a ping each interval would fill them.
 *   `initialize` opens one everywhere, and has Playwright get a browser context ready.
 * - With an id that it does not know, a server with sessions answers 404 or 400 after one look at a table (SDK 1.x, 2.x, Python, Playwright).
 * - A server without sessions ignores the id and answers the ping (SDK 1.x stateless), or refuses the method or the missing revision with 400 or 404
 *   (2026-07-28). `server/discover` would be the ping of that revision, but the others answer it no better than this.
 * - One that wants what only clients have answers 401 or 403.
 *
 * All of these are proof of life: any whole head below 500 is. 5xx and failures of the connection are not. The id is the same for the life of the process:
 * a server that opens a session for any id opens one.
 */
import { randomUUID } from 'node:crypto'

import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Upstream, UpstreamCall } from './upstream.ts'

/** Id of our own `ping`. */
const PING_ID = 'adapter-ping'
const BODY = JSON.stringify({ jsonrpc: '2.0', id: PING_ID, method: 'ping' })
const NO_SESSION = randomUUID()

const OWN_HEADERS: HeaderList = [
  'accept',
  'application/json, text/event-stream',
  'content-type',
  'application/json',
  'mcp-session-id',
  NO_SESSION,
]
const OWN_NAMES: ReadonlySet<string> = new Set(['accept', 'content-type', 'mcp-session-id'])

/** What of an answer is read so that its connection can be used again, in bytes. */
const MAX_BYTES = 65_536

/** Resolves when the server has answered. Rejects with ADAPTER_UPSTREAM_DOWN after a 5xx, ADAPTER_UPSTREAM_TIMEOUT after `timeoutMs`, or why it can't be reached. */
export function probeHttp(
  upstream: Upstream,
  staticHeaders: HeaderList,
  timeoutMs: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let size = 0
    const timer = setTimeout(() => {
      call.abort()
      // Does nothing when the head was there.
      reject(
        new AdapterError(
          'ADAPTER_UPSTREAM_TIMEOUT',
          `the upstream server did not answer a ping within ${timeoutMs / 1_000} s`,
        ),
      )
    }, timeoutMs)
    timer.unref()
    const headers = [...without(staticHeaders, OWN_NAMES), ...OWN_HEADERS]
    const call: UpstreamCall = upstream.call(
      { method: 'POST', headers, body: BODY, isSafe: true },
      {
        head: (status) => {
          if (status < 500) resolve()
          else
            reject(
              new AdapterError(
                'ADAPTER_UPSTREAM_DOWN',
                `the upstream server answered a ping with ${status}`,
              ),
            )
        },
        data: (chunk) => {
          size += chunk.byteLength
          if (size <= MAX_BYTES) return
          clearTimeout(timer)
          call.abort()
        },
        end: () => clearTimeout(timer),
        error: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      },
    )
  })
}

/** The list without some headers, by lower-case name. */
function without(headers: HeaderList, names: ReadonlySet<string>): string[] {
  const kept: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? ''
    if (!names.has(name.toLowerCase())) kept.push(name, headers[i + 1] ?? '')
  }
  return kept
}
