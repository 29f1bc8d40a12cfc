/** An upstream over Streamable HTTP, on our own HTTP/1.1 client. */
import type { UpstreamConfig } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { downstreamHeaders } from './forwarded-headers.ts'
import { ClientTls } from './http1/client-tls.ts'
import { Http1Client } from './http1/http1-client.ts'
import type { Http1ClientOptions } from './http1/http1-client.ts'
import { proxyOf } from './http1/proxy.ts'
import { probeHttp } from './http-probe.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** See the file comment. Its waits for an answer are bounded by the exchange, which knows a stream from a call. */
export class StreamableHttpUpstream implements Upstream {
  readonly #staticHeaders: HeaderList
  readonly #options: Http1ClientOptions
  readonly #client: Http1Client
  /** Has a connection of its own: that all others are taken says nothing about the server. */
  #prober: Http1Client | undefined

  /** Throws `ConfigError` when a file of `tls` can't be used; one that is renewed later and can't be is only told of. */
  constructor(config: UpstreamConfig, onUnusableTls: (error: unknown) => void = () => {}) {
    const { tls, proxyUrl } = config
    const isOwnTls = [tls.caFile, tls.certFile, tls.serverName].some((field) => field !== null)
    this.#staticHeaders = Object.entries(config.staticHeaders).flat()
    this.#options = {
      // Checked with the configuration.
      url: new URL(config.url ?? ''),
      staticHeaders: this.#staticHeaders,
      maxConnections: config.maxConnections,
      connectTimeoutMs: config.connectTimeoutSeconds * 1_000,
      insecureTls: config.insecureTls,
      tls: isOwnTls ? new ClientTls(tls, onUnusableTls) : undefined,
      proxy: proxyUrl === null ? undefined : proxyOf(new URL(proxyUrl)),
      keepsHeader: (name) => downstreamHeaders({ [name]: '' }).length > 0,
    }
    this.#client = new Http1Client(this.#options)
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    return this.#client.call(request, listener)
  }

  probe(timeoutMs: number): Promise<void> {
    this.#prober ??= new Http1Client({ ...this.#options, maxConnections: 1 })
    return probeHttp(this.#prober, this.#staticHeaders, timeoutMs)
  }

  async close(): Promise<void> {
    await Promise.all([this.#client.close(), this.#prober?.close()])
  }
}
