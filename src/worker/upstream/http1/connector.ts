/** Opens sockets to one origin, plain or with TLS. */
import { connect as connectPlain, isIP } from 'node:net'
import type { OnReadOpts, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'

/** TCP's own probes: find out, in hours rather than never, that the far end of a quiet stream is gone. */
const PROBE_AFTER_MS = 60_000

/** What a connector is made of. */
export interface ConnectorOptions {
  /** The origin. */
  readonly url: URL
  /** Whose certificate to expect, when it isn't the URL's host: a name, perhaps with a port. */
  readonly authority: string | undefined
  /** Whether certificates are not checked. */
  readonly insecureTls: boolean
}

/** See the file comment. */
export class Connector {
  readonly isTls: boolean
  readonly #host: string
  readonly #port: number
  readonly #serverName: string
  readonly #insecureTls: boolean
  /** The last TLS session, which saves a round trip. */
  #session: Buffer | undefined

  constructor(options: ConnectorOptions) {
    const { url, authority, insecureTls } = options
    this.isTls = url.protocol === 'https:'
    this.#host = withoutBrackets(url.hostname)
    this.#port = url.port === '' ? (this.isTls ? 443 : 80) : Number(url.port)
    this.#insecureTls = insecureTls
    const name = authority === undefined ? this.#host : hostOfAuthority(authority)
    // An address is no name: servers are told none, and the certificate must hold the address.
    this.#serverName = isIP(name) === 0 ? name : ''
  }

  /** The event that says that requests can be sent. */
  get readyEvent(): 'connect' | 'secureConnect' {
    return this.isTls ? 'secureConnect' : 'connect'
  }

  /** Starts a connection. The answer is read into `onread`'s buffer. */
  open(onread: OnReadOpts): Socket {
    const options = {
      host: this.#host,
      port: this.#port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: PROBE_AFTER_MS,
      onread,
    }
    if (!this.isTls) return connectPlain(options)
    const socket = connectTls({
      ...options,
      ...(this.#serverName === '' ? {} : { servername: this.#serverName }),
      ...(this.#session === undefined ? {} : { session: this.#session }),
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: !this.#insecureTls,
    })
    socket.on('session', (session) => {
      this.#session = session
    })
    return socket
  }
}

function withoutBrackets(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host
}

function hostOfAuthority(authority: string): string {
  return withoutBrackets(authority.replace(/:\d*$/, ''))
}
