/** Opens sockets to one origin, plain or with TLS, straight or through a proxy. */
import { connect as connectPlain, isIP } from 'node:net'
import type { OnReadOpts, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions, SecureContext } from 'node:tls'

import type { AdapterError } from '../../../shared/errors.ts'
import type { ClientTls } from './client-tls.ts'
import { openTunnel } from './proxy.ts'
import type { Proxy } from './proxy.ts'

/** TCP's own probes: find out, in hours rather than never, that the far end of a quiet stream is gone. */
const PROBE_AFTER_MS = 60_000

const SOCKET_OPTIONS = {
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: PROBE_AFTER_MS,
} as const

/** What a connector is made of. */
export interface ConnectorOptions {
  /** The origin. */
  readonly url: URL
  /** Whose certificate to expect, when it isn't the URL's host: a name, perhaps with a port. */
  readonly authority: string | undefined
  /** Whether certificates of the origin are not checked. */
  readonly insecureTls: boolean
  /** Undefined for what Node does by itself. */
  readonly tls: ClientTls | undefined
  /** Undefined for none. Requests to a plain origin are then written as for a proxy, whose socket this opens. */
  readonly proxy: Proxy | undefined
}

/** How a connection that is being opened is told. */
export interface Opening {
  /** Takes the place of the socket that `open` answered. */
  replaced(socket: Socket): void
  /** Requests can be sent. */
  ready(): void
  /** The proxy refused; errors of the socket itself are its own events. */
  failed(error: AdapterError): void
}

/** See the file comment. */
export class Connector {
  /** Whether the socket that requests are written to has TLS. */
  readonly isTls: boolean
  /** Whether `open` answers a socket that is to be replaced. */
  readonly isTunnel: boolean
  readonly #origin: URL
  readonly #host: string
  readonly #port: number
  readonly #serverName: string
  readonly #insecureTls: boolean
  readonly #tls: ClientTls | undefined
  readonly #proxy: Proxy | undefined
  /** The last TLS session, which saves a round trip, and what it was made with. */
  #session: { readonly ticket: Buffer; readonly context: SecureContext | undefined } | undefined

  constructor({ url, authority, insecureTls, tls, proxy }: ConnectorOptions) {
    const isOriginTls = url.protocol === 'https:'
    this.#origin = url
    this.#host = withoutBrackets(url.hostname)
    this.#port = url.port === '' ? (isOriginTls ? 443 : 80) : Number(url.port)
    this.#insecureTls = insecureTls
    this.#tls = tls
    this.#proxy = proxy
    this.isTunnel = proxy !== undefined && isOriginTls
    this.isTls = isOriginTls || proxy?.isTls === true
    this.#serverName =
      tls?.serverName ?? (authority === undefined ? this.#host : hostOfAuthority(authority))
  }

  /** Starts a connection. The answer is read into `onread`'s buffer, or through a tunnel handed to its callback in others. */
  open(onread: OnReadOpts, opening: Opening): Socket {
    const isOriginTls = this.#origin.protocol === 'https:'
    if (this.#proxy !== undefined) {
      return isOriginTls
        ? this.#openTunnel(this.#proxy, onread, opening)
        : this.#openProxy(this.#proxy, onread, opening)
    }
    const place = { ...SOCKET_OPTIONS, host: this.#host, port: this.#port, onread }
    if (!isOriginTls) return connectPlain(place).once('connect', () => opening.ready())
    return this.#secure(place, opening)
  }

  /** A proxy that takes whole requests. */
  #openProxy(proxy: Proxy, onread: OnReadOpts, opening: Opening): Socket {
    const place = { ...SOCKET_OPTIONS, host: proxy.host, port: proxy.port, onread }
    return proxy.isTls
      ? connectTls({ ...this.#proxyTls(proxy), ...place }).once('secureConnect', () =>
          opening.ready(),
        )
      : connectPlain(place).once('connect', () => opening.ready())
  }

  #openTunnel(proxy: Proxy, onread: OnReadOpts, opening: Opening): Socket {
    const host = this.#origin.hostname
    const tunnel = openTunnel({
      proxy,
      authority: `${host}:${this.#port}`,
      socketOptions: SOCKET_OPTIONS,
      tls: this.#proxyTls(proxy),
      opened: () => {
        const socket = this.#secure({ socket: tunnel, host: this.#host }, opening)
        // Through another socket, Node reads into buffers of its own.
        socket.on('data', (chunk) => onread.callback(chunk.length, chunk))
        opening.replaced(socket)
      },
      failed: (error) => opening.failed(error),
    })
    return tunnel
  }

  #secure(place: ConnectionOptions, opening: Opening): Socket {
    const context = this.#tls?.context
    // One that was made with other authorities would not be checked against these.
    const ticket = this.#session?.context === context ? this.#session?.ticket : undefined
    const socket = connectTls({
      ...place,
      ...nameOf(this.#serverName),
      ...(context === undefined ? {} : { secureContext: context }),
      ...(ticket === undefined ? {} : { session: ticket }),
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: !this.#insecureTls,
    })
    socket.on('session', (session) => {
      this.#session = { ticket: session, context }
    })
    return socket.once('secureConnect', () => opening.ready())
  }

  /** A proxy is checked whatever is said of the origin, and shown no certificate that is meant for that. */
  #proxyTls({ host }: Proxy): ConnectionOptions {
    const ca = this.#tls?.ca
    return {
      ...nameOf(host),
      ...(ca === undefined ? {} : { ca }),
      ALPNProtocols: ['http/1.1'],
    }
  }
}

/** An address is no name: servers are told none, and the certificate must hold the address. */
function nameOf(name: string): { servername?: string } {
  return isIP(name) === 0 ? { servername: name } : {}
}

function withoutBrackets(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host
}

function hostOfAuthority(authority: string): string {
  return withoutBrackets(authority.replace(/:\d*$/, ''))
}
