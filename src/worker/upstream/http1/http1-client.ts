/** An HTTP/1.1 client for one URL, for what a relay needs and no more: it is in the path of every call. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { refusedCall } from '../refused-call.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from '../upstream.ts'
import type { ClientTls } from './client-tls.ts'
import { ConnectionPool } from './connection-pool.ts'
import { Connector } from './connector.ts'
import { HeaderNames } from './header-names.ts'
import { Http1Call } from './http1-call.ts'
import { ProxiedAnswer } from './proxied-answer.ts'
import type { Proxy } from './proxy.ts'
import { hostOf, RequestEncoder } from './request-encoder.ts'
import type { EncodedRequest } from './request-encoder.ts'

const SETTLED_MS = 1_000

/** What a client is made of. */
export interface Http1ClientOptions {
  readonly url: URL
  /** Headers that every request will have; a `host` among them names the server for TLS, too. */
  readonly staticHeaders: HeaderList
  /** Connections at a time; null for no limit. */
  readonly maxConnections: number | null
  readonly connectTimeoutMs: number
  /** For how long a connection may be idle and still be written to at once: see `Connection.carry`. Default 1000. */
  readonly settledMs?: number
  /** Whether certificates are not checked. */
  readonly insecureTls: boolean
  /** What connections with TLS are made with; undefined for what Node does by itself. */
  readonly tls?: ClientTls | undefined
  /** What stands on the way. */
  readonly proxy?: Proxy | undefined
  /** Whether a header of an answer is handed on, by its name in lower case; asked once per name. */
  readonly keepsHeader: (name: string) => boolean
}

/** See the file comment. */
export class Http1Client implements Upstream {
  readonly #encoder: RequestEncoder
  readonly #url: URL
  readonly #pool: ConnectionPool
  /** Whether the answers are those of a proxy. */
  readonly #asksProxy: boolean
  readonly #proxyAuthorization: string | undefined

  constructor(options: Http1ClientOptions) {
    const { url, staticHeaders, maxConnections, connectTimeoutMs, insecureTls, tls, proxy } =
      options
    const { settledMs = SETTLED_MS } = options
    this.#url = url
    this.#asksProxy = proxy !== undefined && url.protocol === 'http:'
    this.#proxyAuthorization = this.#asksProxy ? proxy?.authorization : undefined
    this.#encoder = this.#encoderFor(`${url.pathname}${url.search}`)
    const authority = hostOf(staticHeaders)
    this.#pool = new ConnectionPool({
      connector: new Connector({ url, authority, insecureTls, tls, proxy }),
      names: new HeaderNames(options.keepsHeader),
      maxConnections,
      connectTimeoutMs,
      settledMs,
    })
  }

  /** How many connections there are, idle ones included, and how many calls wait for one. */
  get size(): { readonly connections: number; readonly idle: number; readonly waiting: number } {
    return this.#pool.size
  }

  /** Never calls the listener before it returns. */
  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    return this.#send(this.#encoder, request, listener)
  }

  /** Another resource of the same origin, over the same connections. `path` has the query, as a parsed URL has them. */
  at(path: string): Pick<Upstream, 'call'> {
    const encoder = this.#encoderFor(path)
    return { call: (request, listener) => this.#send(encoder, request, listener) }
  }

  /** Fails what is under way with ADAPTER_STOPPING. */
  async close(): Promise<void> {
    this.#pool.close()
  }

  /** A proxy is asked for whole URLs. */
  #encoderFor(path: string): RequestEncoder {
    const { protocol, host } = this.#url
    const target = this.#asksProxy ? `${protocol}//${host}${path}` : path
    return new RequestEncoder(target, host, this.#proxyAuthorization)
  }

  #send(encoder: RequestEncoder, request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    let encoded: EncodedRequest
    try {
      encoded = encoder.encode(request)
    } catch (error) {
      const refusal =
        error instanceof AdapterError
          ? error
          : new AdapterError('ADAPTER_INTERNAL', 'the request can not be sent', { cause: error })
      return refusedCall(listener, refusal)
    }
    const told = this.#asksProxy ? new ProxiedAnswer(listener, () => call.abort()) : listener
    const call = new Http1Call(encoded, request.isSafe, told, this.#pool)
    this.#pool.send(call)
    return call
  }
}
