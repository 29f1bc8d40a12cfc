/** An HTTP proxy in front of an upstream that notes what passes: which sessions are used, and which streams are open. */
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'

import type { Test } from 'tap'

/** A request that passed. */
export interface PassedRequest {
  readonly method: string
  readonly sessionId: string | undefined
  /** Undefined until the answer's head came. */
  status: number | undefined
  /** The session that the answer to `initialize` names. */
  openedSession: string | undefined
  /** When the answer's head came, and when the answer was over, in milliseconds of `performance.now()`. */
  answeredAtMs: number | undefined
  endedAtMs: number | undefined
}

/** See the file comment. */
export interface RecordingProxy {
  /** Stands for the upstream's URL. */
  readonly url: string
  readonly passed: readonly PassedRequest[]
}

/** Starts a proxy; ended with the test. What it can't reach it answers by closing the connection. */
export async function startRecordingProxy(t: Test, upstreamUrl: string): Promise<RecordingProxy> {
  const upstream = new URL(upstreamUrl)
  const passed: PassedRequest[] = []
  const server = createServer((incoming, answer) => {
    const entry: PassedRequest = {
      method: incoming.method ?? '',
      sessionId: headerOf(incoming.headers['mcp-session-id']),
      status: undefined,
      openedSession: undefined,
      answeredAtMs: undefined,
      endedAtMs: undefined,
    }
    passed.push(entry)
    const outgoing = httpRequest(
      {
        hostname: '127.0.0.1',
        port: upstream.port,
        path: upstream.pathname,
        method: incoming.method,
        headers: { ...incoming.headers, host: upstream.host },
      },
      (received) => {
        entry.status = received.statusCode
        entry.answeredAtMs = performance.now()
        entry.openedSession = headerOf(received.headers['mcp-session-id'])
        answer.writeHead(received.statusCode ?? 502, received.headers)
        answer.flushHeaders()
        received.pipe(answer)
        // An answer that breaks off breaks off here, too.
        received.on('error', () => answer.destroy())
      },
    )
    outgoing.on('error', () => answer.destroy())
    answer.on('close', () => {
      entry.endedAtMs = performance.now()
      outgoing.destroy()
    })
    incoming.pipe(outgoing)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  // A listening TCP server has an address of this type.
  const { port } = server.address() as AddressInfo
  return { url: `http://localhost:${port}${upstream.pathname}`, passed }
}

function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}
