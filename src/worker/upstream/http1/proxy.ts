/** An HTTP proxy on the way to an upstream: how it is reached, and how it opens a tunnel (RFC 9110 §9.3.6). */
import { connect as connectPlain } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'

import { AdapterError } from '../../../shared/errors.ts'
import { codeOf } from './http1-errors.ts'

/** Largest head of an answer to CONNECT, in bytes. */
const MAX_HEAD_BYTES = 16_384

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})(?: |\r\n)/

/** What `proxy_url` says. */
export interface Proxy {
  readonly isTls: boolean
  readonly host: string
  readonly port: number
  /** Value of `Proxy-Authorization`; undefined when the URL names nobody. Secret. */
  readonly authorization: string | undefined
}

/** Reads a URL that the configuration allows. */
export function proxyOf(url: URL): Proxy {
  const isTls = url.protocol === 'https:'
  const hasUser = url.username !== '' || url.password !== ''
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
  return {
    isTls,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (isTls ? 443 : 80) : Number(url.port),
    authorization: hasUser
      ? `Basic ${Buffer.from(credentials, 'utf8').toString('base64')}`
      : undefined,
  }
}

/** What a tunnel is made of. */
export interface TunnelOptions {
  readonly proxy: Proxy
  /** Host and port that the proxy is to connect to. */
  readonly authority: string
  readonly socketOptions: { readonly noDelay: boolean; readonly keepAlive: boolean }
  /** For a proxy that is reached over TLS. */
  readonly tls: ConnectionOptions
  /** The tunnel is open: nothing has come through it. */
  readonly opened: () => void
  /** Not called after `opened`. */
  readonly failed: (error: AdapterError) => void
}

/** Connects to the proxy and asks for a tunnel. Answers the socket, which is to be destroyed to give up. */
export function openTunnel(options: TunnelOptions): Socket {
  const { proxy, socketOptions, tls, opened, failed } = options
  const place = { ...socketOptions, host: proxy.host, port: proxy.port }
  const socket = proxy.isTls ? connectTls({ ...tls, ...place }) : connectPlain(place)
  let head = Buffer.alloc(0)
  const settle = (error?: AdapterError): void => {
    socket.off('data', read).off('error', broke).off('end', ended).off('close', ended)
    if (error !== undefined) {
      // What fails after it is of no interest.
      socket.on('error', () => {}).destroy()
      failed(error)
    } else opened()
  }
  const read = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end === -1) {
      if (head.length > MAX_HEAD_BYTES) settle(proxyFailed('its answer has no end'))
      return
    }
    const status = STATUS_LINE.exec(head.toString('latin1', 0, end + 2))?.[1]
    if (status?.startsWith('2') === true) {
      // The client speaks first in TLS: bytes of a server would be somebody's in between.
      settle(head.length === end + 4 ? undefined : proxyFailed('it sent data of its own'))
    } else settle(status === undefined ? proxyFailed('it speaks no HTTP') : refused(status))
  }
  const broke = (error: Error): void => settle(proxyFailed(codeOf(error)))
  const ended = (): void => settle(proxyFailed('closed'))
  socket.on('data', read).on('error', broke).on('end', ended).on('close', ended)
  socket.once(proxy.isTls ? 'secureConnect' : 'connect', () =>
    socket.write(connectRequest(options)),
  )
  return socket
}

/** The proxy answered with this status instead of a way to the upstream. */
export function refused(status: string): AdapterError {
  const why =
    status === '407'
      ? 'it asks for other credentials than those in upstream.proxy_url: 407'
      : `it answered ${status}`
  return proxyFailed(why)
}

function connectRequest({ proxy, authority }: TunnelOptions): string {
  const { authorization } = proxy
  const credentials = authorization === undefined ? '' : `proxy-authorization: ${authorization}\r\n`
  return `CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${credentials}\r\n`
}

function proxyFailed(why: string): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_UNREACHABLE',
    `the proxy does not lead to the upstream server (${why})`,
  )
}
