/** An HTTP proxy in front of an upstream that notes what passes: which sessions are used, which streams are open, and what becomes of the pings on them. */
import { createServer, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Transform } from 'node:stream'

import type { Test } from 'tap'

import { messagesIn } from './wire.ts'
import type { RpcAnswer } from './wire.ts'

/** A request that passed. Times are in milliseconds of `performance.now()`. */
export interface PassedRequest {
  readonly method: string
  readonly sessionId: string | undefined
  readonly beganAtMs: number
  /** Undefined until the answer's head came. */
  status: number | undefined
  /** The session that the answer to `initialize` names. */
  openedSession: string | undefined
  /** When the answer's head came, and when the answer was over. */
  answeredAtMs: number | undefined
  endedAtMs: number | undefined
  /** Whether the upstream brought the answer to its end; else its reader left. */
  isWhole: boolean
  /** The upstream's pings in an answer to a GET. */
  readonly pings: PassedPing[]
  /** The upstream's request that this one answers. */
  answersId: unknown
}

/** A ping that the upstream sent on a stream. */
export interface PassedPing {
  readonly id: unknown
  readonly atMs: number
}

/** See the file comment. */
export interface RecordingProxy {
  /** Stands for the upstream's URL. */
  readonly url: string
  readonly passed: readonly PassedRequest[]
  /** Called for each ping before it is passed on; it is not when this answers false. */
  onPing: ((stream: PassedRequest, ping: PassedPing) => boolean) | undefined
}

/** Starts a proxy; ended with the test. What it can't reach it answers by closing the connection. */
export async function startRecordingProxy(t: Test, upstreamUrl: string): Promise<RecordingProxy> {
  const upstream = new URL(upstreamUrl)
  const passed: PassedRequest[] = []
  const server = createServer((incoming, answer) => {
    const entry: PassedRequest = {
      method: incoming.method ?? '',
      sessionId: headerOf(incoming.headers['mcp-session-id']),
      beganAtMs: performance.now(),
      status: undefined,
      openedSession: undefined,
      answeredAtMs: undefined,
      endedAtMs: undefined,
      isWhole: false,
      pings: [],
      answersId: undefined,
    }
    passed.push(entry)
    noteAnswer(incoming, entry)
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
        received.on('end', () => {
          entry.isWhole = true
        })
        const notes = pingNotes(entry, (ping) => recorder.onPing?.(entry, ping) ?? true)
        const source = entry.method === 'GET' ? received.pipe(notes) : received
        source.pipe(answer)
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
  const url = `http://localhost:${port}${upstream.pathname}`
  const recorder: RecordingProxy = { url, passed, onPing: undefined }
  return recorder
}

/** Notes which request of the upstream's a POST answers, if any. */
function noteAnswer(incoming: IncomingMessage, entry: PassedRequest): void {
  if (entry.method !== 'POST') return
  const parts: Buffer[] = []
  incoming.on('data', (part: Buffer) => parts.push(part))
  incoming.on('end', () => {
    const message = parsed(Buffer.concat(parts).toString('utf8'))
    if (message.result !== undefined || message.error !== undefined) entry.answersId = message.id
  })
}

/** Passes an event stream on and notes the pings in it. `passes` may keep back the piece that a ping came in: servers send each event by itself. */
function pingNotes(entry: PassedRequest, passes: (ping: PassedPing) => boolean): Transform {
  let text = ''
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      text += chunk.toString('utf8')
      const end = text.lastIndexOf('\n\n')
      const messages = end === -1 ? [] : messagesIn(text.slice(0, end))
      if (end !== -1) text = text.slice(end + 2)
      let isPassed = true
      for (const { id, method } of messages) {
        if (method !== 'ping') continue
        const ping = { id, atMs: performance.now() }
        entry.pings.push(ping)
        if (!passes(ping)) isPassed = false
      }
      done(null, isPassed ? chunk : undefined)
    },
  })
}

/** What is no JSON is for the upstream to refuse. */
function parsed(body: string): RpcAnswer {
  try {
    return JSON.parse(body) as RpcAnswer // what it holds is looked at by who asked
  } catch {
    return {}
  }
}

function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}
