/**
 * The cheapest question that every Streamable HTTP server answers, whatever its revision, and that makes nothing there: `server/discover`, as revision
 * 2026-07-28 has it, for a session that does not exist.
 *
 * - A server of 2026-07-28 has no `ping` and no sessions: it answers `server/discover`, and ignores the id.
 * - With an id that it does not know, a server with sessions answers 404 or 400 after one look at a table (SDK 1.x, 2.x, Python, Playwright).
 * - Without an id, servers on the Python SDK (FastMCP) open a session for whatever comes, and keep it: a ping each interval would fill them. `initialize`
 *   opens one everywhere, and has Playwright get a browser context ready.
 * - A server without sessions of a revision before refuses the method or the revision with 400 (SDK 1.x stateless).
 * - One that wants what only clients have answers 401 or 403.
 *
 * All of these are proof of life: any whole head below 500 is. 5xx and failures of the connection are not. The id is the same for the life of the process:
 * a server that opens a session for any id opens one.
 */
import { randomUUID } from 'node:crypto'

import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Upstream, UpstreamCall } from './upstream.ts'

/** Id of our own request, and how the session begins that there is not. */
const PING_ID = 'adapter-ping'
const REVISION = '2026-07-28'
const METHOD = 'server/discover'
const META = 'io.modelcontextprotocol'
const BODY = JSON.stringify({
  jsonrpc: '2.0',
  id: PING_ID,
  method: METHOD,
  params: {
    _meta: {
      [`${META}/protocolVersion`]: REVISION,
      [`${META}/clientCapabilities`]: {},
      [`${META}/clientInfo`]: { name: 'remote-mcp-adapter', version: '0' },
    },
  },
})
/** Says in the logs of servers what it is. */
const NO_SESSION = `${PING_ID}-${randomUUID()}`

const OWN_HEADERS: HeaderList = [
  'accept',
  'application/json, text/event-stream',
  'content-type',
  'application/json',
  'mcp-protocol-version',
  REVISION,
  'mcp-method',
  METHOD,
  'mcp-session-id',
  NO_SESSION,
]
const OWN_NAMES: ReadonlySet<string> = new Set(OWN_HEADERS.filter((_, i) => i % 2 === 0))

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
