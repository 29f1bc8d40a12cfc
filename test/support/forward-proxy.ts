// A forwarding HTTP proxy on the loopback: tunnels and whole requests, counted; it can refuse, hang and babble.
import { createServer, request as httpRequest } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect } from 'node:net'
import type { Socket } from 'node:net'

import { SERVER_CERTIFICATE, SERVER_KEY } from './certificates.ts'

/** What it does with a request: forwards it, answers with a status, says nothing, talks before its turn, or something that is not HTTP. */
export type ProxyManner = 'forward' | 'hang' | 'talk' | 'babble' | number

/** See the file comment. */
export interface ForwardProxy {
  readonly port: number
  manner: ProxyManner
  /** `Proxy-Authorization` that it asks for; undefined for none. */
  credentials: string | undefined
  /** First lines of requests so far. */
  readonly seen: string[]
  /** Headers of the last one. */
  last: IncomingMessage['headers']
  /** Connections of clients that are open. */
  open(): number
  stop(): Promise<void>
}

/** Starts one; `tls` with the certificate for localhost. */
export async function startForwardProxy({ tls = false } = {}): Promise<ForwardProxy> {
  const sockets = new Set<Socket>()
  const track = (socket: Socket): void => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  }
  const server: Server = tls
    ? createTlsServer({ key: SERVER_KEY, cert: SERVER_CERTIFICATE })
    : createServer()
  const proxy: ForwardProxy = {
    port: 0,
    manner: 'forward',
    credentials: undefined,
    seen: [],
    last: {},
    open: () => sockets.size,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  const refusal = (request: IncomingMessage): number | undefined => {
    proxy.seen.push(`${request.method} ${request.url}`)
    proxy.last = request.headers
    if (proxy.credentials !== undefined) {
      const given = request.headers['proxy-authorization']
      if (given !== proxy.credentials) return 407
    }
    return typeof proxy.manner === 'number' ? proxy.manner : undefined
  }
  server.on(tls ? 'secureConnection' : 'connection', track)
  server.on('tlsClientError', () => {})
  server.on('connect', (request: IncomingMessage, client: Socket) => {
    const status = refusal(request)
    if (status !== undefined) {
      client.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`)
      return
    }
    if (proxy.manner === 'hang') {
      client.resume().on('end', () => client.destroy())
      return
    }
    if (proxy.manner === 'babble') {
      client.end('hello, this is not HTTP\r\n\r\n')
      return
    }
    const [host = '', port = ''] = (request.url ?? '').split(':')
    const target = connect(Number(port), host, () => {
      const early = proxy.manner === 'talk' ? 'early words' : ''
      client.write(`HTTP/1.1 200 Connection established\r\n\r\n${early}`)
      client.pipe(target).pipe(client)
    })
    target.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n'))
    client.on('close', () => target.destroy())
    target.on('close', () => client.destroy())
  })
  server.on('request', (request, response) => {
    const status = refusal(request)
    if (status !== undefined) {
      request.resume()
      response.writeHead(status).end('the words of the proxy')
      return
    }
    if (proxy.manner === 'hang') return
    const { 'proxy-authorization': _, ...headers } = request.headers
    const forwarded = httpRequest(
      request.url ?? '',
      { method: request.method, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      },
    )
    forwarded.on('error', () => response.writeHead(502).end())
    request.pipe(forwarded)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')
  return Object.assign(proxy, { port: address.port })
}
