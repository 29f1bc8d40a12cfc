// An upstream of the HTTP+SSE transport (2024-11-05) whose streams and answers a test writes by hand. Without scripts it names its endpoint, takes
// every message with 202 and says nothing.

import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'

/** A message that was POSTed. */
export interface PostedRequest {
  /** Path and query. */
  readonly target: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A stream that was opened. */
export interface OpenedStream {
  readonly headers: IncomingHttpHeaders
  readonly response: ServerResponse
  /** Whether the other side is gone. */
  isClosed: boolean
}

/** What a test may decide; each gets a response that nothing was written to. */
export interface SseScripts {
  /** Answers a GET. */
  stream?: (response: ServerResponse) => void
  /** Answers a POST. */
  post?: (request: PostedRequest, response: ServerResponse) => void
}

/** A running upstream. */
export interface ScriptedSse {
  /** Where its stream is, `http://127.0.0.1:<port>/sse`. */
  readonly url: string
  readonly port: number
  readonly scripts: SseScripts
  readonly streams: OpenedStream[]
  readonly posts: PostedRequest[]
  /** Open connections. */
  connections(): Promise<number>
  stop(): Promise<void>
}

/** Starts an upstream on 127.0.0.1. */
export async function startScriptedSse(scripts: SseScripts = {}): Promise<ScriptedSse> {
  const streams: OpenedStream[] = []
  const posts: PostedRequest[] = []
  const server = createServer((request, response) => {
    const { method, url: target = '', headers } = request
    if (method === 'GET') {
      const stream = { headers, response, isClosed: false }
      response.on('close', () => {
        stream.isClosed = true
      })
      streams.push(stream)
      if (scripts.stream === undefined) response.write(beginSse(response, '/messages?session=1'))
      else scripts.stream(response)
      return
    }
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const posted = { target, headers, body: Buffer.concat(parts).toString('utf8') }
      posts.push(posted)
      if (scripts.post === undefined) response.writeHead(202).end('Accepted')
      else scripts.post(posted, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')
  return {
    url: `http://127.0.0.1:${address.port}/sse`,
    port: address.port,
    scripts,
    streams,
    posts,
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Begins a stream; answers the event that names an endpoint. */
export function beginSse(response: ServerResponse, endpoint: string): string {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  return `event: endpoint\ndata: ${endpoint}\n\n`
}
