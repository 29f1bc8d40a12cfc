/** An upstream over Streamable HTTP, on our own HTTP/1.1 client. */
import { downstreamHeaders } from './forwarded-headers.ts'
import { Http1Client } from './http1/http1-client.ts'
import type { Http1ClientOptions } from './http1/http1-client.ts'
import { probeHttp } from './http-probe.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** See the file comment. Its waits for an answer are bounded by the exchange, which knows a stream from a call. */
export class StreamableHttpUpstream implements Upstream {
  readonly #options: Http1ClientOptions
  readonly #client: Http1Client
  /** Has a connection of its own: that all others are taken says nothing about the server. */
  #prober: Http1Client | undefined

  /** `keepsChallenge`: `WWW-Authenticate` is for the client, whose token the upstream judges. */
  constructor(options: Omit<Http1ClientOptions, 'keepsHeader'>, keepsChallenge: boolean) {
    this.#options = {
      ...options,
      keepsHeader: (name) =>
        downstreamHeaders({ [name]: '' }).length > 0 ||
        (keepsChallenge && name === 'www-authenticate'),
    }
    this.#client = new Http1Client(this.#options)
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    return this.#client.call(request, listener)
  }

  probe(timeoutMs: number): Promise<void> {
    this.#prober ??= new Http1Client({ ...this.#options, maxConnections: 1 })
    return probeHttp(this.#prober, this.#options.staticHeaders, timeoutMs)
  }

  async close(): Promise<void> {
    await Promise.all([this.#client.close(), this.#prober?.close()])
  }
}
