/** An HTTP/1.1 client for one URL, for what a relay needs and no more: it is in the path of every call. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { refusedCall } from '../refused-call.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from '../upstream.ts'
import { ConnectionPool } from './connection-pool.ts'
import { Connector } from './connector.ts'
import { HeaderNames } from './header-names.ts'
import { Http1Call } from './http1-call.ts'
import { hostOf, RequestEncoder } from './request-encoder.ts'
import type { EncodedRequest } from './request-encoder.ts'

/** What a client is made of. */
export interface Http1ClientOptions {
  readonly url: URL
  /** Headers that every request will have; a `host` among them names the server for TLS, too. */
  readonly staticHeaders: HeaderList
  /** Connections at a time; null for no limit. */
  readonly maxConnections: number | null
  readonly connectTimeoutMs: number
  /** Whether certificates are not checked. */
  readonly insecureTls: boolean
  /** Whether a header of an answer is handed on, by its name in lower case; asked once per name. */
  readonly keepsHeader: (name: string) => boolean
}

/** See the file comment. */
export class Http1Client implements Upstream {
  readonly #encoder: RequestEncoder
  readonly #pool: ConnectionPool

  constructor(options: Http1ClientOptions) {
    const { url, staticHeaders, maxConnections, connectTimeoutMs, insecureTls } = options
    this.#encoder = new RequestEncoder(`${url.pathname}${url.search}`, url.host)
    this.#pool = new ConnectionPool({
      connector: new Connector({ url, authority: hostOf(staticHeaders), insecureTls }),
      names: new HeaderNames(options.keepsHeader),
      maxConnections,
      connectTimeoutMs,
    })
  }

  /** How many connections there are, idle ones included, and how many calls wait for one. */
  get size(): { readonly connections: number; readonly idle: number; readonly waiting: number } {
    return this.#pool.size
  }

  /** Never calls the listener before it returns. */
  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    let encoded: EncodedRequest
    try {
      encoded = this.#encoder.encode(request)
    } catch (error) {
      const refusal =
        error instanceof AdapterError
          ? error
          : new AdapterError('ADAPTER_INTERNAL', 'the request can not be sent', { cause: error })
      return refusedCall(listener, refusal)
    }
    const call = new Http1Call(encoded, request.isSafe, listener, this.#pool)
    this.#pool.send(call)
    return call
  }

  /** Fails what is under way with ADAPTER_STOPPING. */
  async close(): Promise<void> {
    this.#pool.close()
  }
}
