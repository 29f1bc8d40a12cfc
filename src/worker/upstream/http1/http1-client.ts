/** An HTTP/1.1 client for one URL, for what a relay needs and no more: it is in the path of every call. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
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
  readonly #host: string
  readonly #pool: ConnectionPool

  constructor(options: Http1ClientOptions) {
    const { url, staticHeaders, maxConnections, connectTimeoutMs, insecureTls } = options
    this.#host = url.host
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
    return this.#send(this.#encoder, request, listener)
  }

  /** Another resource of the same origin, over the same connections. `path` has the query, as a parsed URL has them. */
  at(path: string): Pick<Upstream, 'call'> {
    const encoder = new RequestEncoder(path, this.#host)
    return { call: (request, listener) => this.#send(encoder, request, listener) }
  }

  /** Fails what is under way with ADAPTER_STOPPING. */
  async close(): Promise<void> {
    this.#pool.close()
  }

  #send(encoder: RequestEncoder, request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    let encoded: EncodedRequest
    try {
      encoded = encoder.encode(request)
    } catch (error) {
      return refusedCall(listener, error)
    }
    const call = new Http1Call(encoded, request.isSafe, listener, this.#pool)
    this.#pool.send(call)
    return call
  }
}

/** A call that fails without having begun. */
function refusedCall(listener: AnswerListener, error: unknown): UpstreamCall {
  let isOver = false
  process.nextTick(() => {
    if (isOver) return
    listener.error(
      error instanceof AdapterError
        ? error
        : new AdapterError('ADAPTER_INTERNAL', 'the request can not be sent', { cause: error }),
    )
  })
  return {
    abort: () => {
      isOver = true
    },
    pause: () => {},
    resume: () => {},
  }
}
