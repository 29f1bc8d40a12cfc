// A plain node:http server on loopback for upstream fixtures: listens, reads JSON bodies, answers JSON-RPC errors, closes for good.

import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'

/** A listening fixture. */
export interface HttpFixture {
  readonly port: number
  /** Ends the listener and every open connection; resolves when the port is free. */
  close(): Promise<void>
}

/** Listens on 127.0.0.1; port 0 picks a free one. Rejects if the port is taken. */
export async function listenOnLoopback(listener: RequestListener, port = 0): Promise<HttpFixture> {
  const server = createServer(listener)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  return { port: address.port, close }
}

/** Reads a whole request body and parses it; `undefined` for an empty body or for what isn't JSON. */
export async function readJsonBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    return undefined
  }
}

/** Answers a JSON-RPC error without an id, as a transport does before it knows the request. */
export function sendRpcError(
  response: ServerResponse,
  status: number,
  error: { code: number; message: string },
): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ jsonrpc: '2.0', error, id: null }))
}

/** The value of a header that may be sent once, or `undefined`. */
export function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value[0] : value
}
