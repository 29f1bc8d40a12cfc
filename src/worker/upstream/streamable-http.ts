/** An upstream over Streamable HTTP, on our own HTTP/1.1 client. */
import type { UpstreamConfig } from '../../shared/config/config.ts'
import { downstreamHeaders } from './forwarded-headers.ts'
import { Http1Client } from './http1/http1-client.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** See the file comment. Its waits for an answer are bounded by the exchange, which knows a stream from a call. */
export class StreamableHttpUpstream implements Upstream {
  readonly #client: Http1Client

  constructor(config: UpstreamConfig) {
    this.#client = new Http1Client({
      // Checked with the configuration.
      url: new URL(config.url ?? ''),
      staticHeaders: Object.entries(config.staticHeaders).flat(),
      maxConnections: config.maxConnections,
      connectTimeoutMs: config.connectTimeoutSeconds * 1_000,
      insecureTls: config.insecureTls,
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
