/** An upstream over Streamable HTTP, on our own HTTP/1.1 client. */
import type { UpstreamConfig } from '../../shared/config/config.ts'
import { downstreamHeaders } from './forwarded-headers.ts'
import { Http1Client } from './http1/http1-client.ts'
import { reachOf } from './http1/reach.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** See the file comment. Its waits for an answer are bounded by the exchange, which knows a stream from a call. */
export class StreamableHttpUpstream implements Upstream {
  readonly #client: Http1Client

  /** See `reachOf`. */
  constructor(config: UpstreamConfig, onUnusableTls: (error: unknown) => void = () => {}) {
    this.#client = new Http1Client({
      ...reachOf(config, onUnusableTls),
      maxConnections: config.maxConnections,
      keepsHeader: (name) => downstreamHeaders({ [name]: '' }).length > 0,
    })
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    return this.#client.call(request, listener)
  }

  close(): Promise<void> {
    return this.#client.close()
  }
}
