/** An upstream over Streamable HTTP, on our own HTTP/1.1 client. */
import type { UpstreamConfig } from '../../shared/config/config.ts'
import { downstreamHeaders } from './forwarded-headers.ts'
import { ClientTls } from './http1/client-tls.ts'
import { Http1Client } from './http1/http1-client.ts'
import { proxyOf } from './http1/proxy.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** See the file comment. Its waits for an answer are bounded by the exchange, which knows a stream from a call. */
export class StreamableHttpUpstream implements Upstream {
  readonly #client: Http1Client

  /** Throws `ConfigError` when a file of `tls` can't be used; one that is renewed later and can't be is only told of. */
  constructor(config: UpstreamConfig, onUnusableTls: (error: unknown) => void = () => {}) {
    const { tls, proxyUrl } = config
    const isOwnTls = [tls.caFile, tls.certFile, tls.serverName].some((field) => field !== null)
    this.#client = new Http1Client({
      url: new URL(config.url),
      staticHeaders: Object.entries(config.staticHeaders).flat(),
      maxConnections: config.maxConnections,
      connectTimeoutMs: config.connectTimeoutSeconds * 1_000,
      insecureTls: config.insecureTls,
      tls: isOwnTls ? new ClientTls(tls, onUnusableTls) : undefined,
      proxy: proxyUrl === null ? undefined : proxyOf(new URL(proxyUrl)),
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
