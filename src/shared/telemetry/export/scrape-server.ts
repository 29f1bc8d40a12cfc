/** A port of its own for Prometheus, served by the telemetry thread so that scrapes cost the listener nothing. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { EXPOSITION_TYPE } from '../telemetry-messages.ts'
import type { ScrapePort } from '../telemetry-options.ts'

/** Scrapers that may be connected at a time. */
const MAX_CONNECTIONS = 32
/** Longest time that a request's head may take, in milliseconds. */
const HEAD_TIMEOUT_MS = 5_000

/** A server that listens. */
export interface ScrapeServer {
  readonly port: number
  /** Ends at once, requests in hand included. */
  close(): void
}

/** Listens; rejects when the port can't be taken. `render` makes the text. */
export async function openScrapeServer(
  { host, port, path }: ScrapePort,
  render: () => string,
): Promise<ScrapeServer> {
  const server = createServer(
    { headersTimeout: HEAD_TIMEOUT_MS, requestTimeout: HEAD_TIMEOUT_MS, maxHeaderSize: 8_192 },
    (request, response) => {
      const isHere = request.url?.split('?', 1)[0] === path
      const isRead = request.method === 'GET' || request.method === 'HEAD'
      if (!isHere || !isRead) {
        const status = isHere ? 405 : 404
        response.writeHead(status, {
          'content-length': 0,
          ...(isHere ? { allow: 'GET, HEAD' } : {}),
        })
        response.end()
        return
      }
      const text = Buffer.from(render())
      response.writeHead(200, {
        'content-type': EXPOSITION_TYPE,
        'content-length': text.byteLength,
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      })
      response.end(request.method === 'HEAD' ? undefined : text)
    },
  )
  server.maxConnections = MAX_CONNECTIONS
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new Error(`can't show metrics on ${host}:${port}: ${error.message}`)),
    )
    server.listen(port, host, resolve)
  })
  // It listens on TCP, so its address is one.
  const address = server.address() as AddressInfo
  return {
    port: address.port,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
