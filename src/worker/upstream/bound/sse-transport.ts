/**
 * The HTTP+SSE transport of revision 2024-11-05 towards an upstream: one GET a connection, whose event stream first names the resource that messages are
 * POSTed to and then brings the upstream's. The connection lives as long as that stream.
 */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { Http1Client } from '../http1/http1-client.ts'
import type { Http1ClientOptions } from '../http1/http1-client.ts'
import type { MessageConnection, MessageListener, MessageTransport } from './message-connection.ts'
import { SseConnection } from './sse-connection.ts'

/** How long an upstream may take to name its endpoint once it is asked for the stream, connecting not included, in milliseconds. */
const ENDPOINT_TIMEOUT_MS = 15_000
/** How long it may take to say that it has a message, in milliseconds. */
const POST_TIMEOUT_MS = 15_000

/** What a transport is made of; the waits are for tests. */
export interface SseTransportOptions {
  readonly client: Omit<Http1ClientOptions, 'keepsHeader'>
  /** Whether `WWW-Authenticate` is for the client, whose token the upstream judges. Default false. */
  readonly keepsChallenge?: boolean
  /** Largest event, in bytes. */
  readonly maxEventBytes: number
  readonly endpointTimeoutMs?: number
  readonly postTimeoutMs?: number
}

/** See the file comment. One per worker and server. */
export class SseTransport implements MessageTransport {
  readonly #options: SseTransportOptions
  readonly #url: URL
  readonly #staticHeaders: HeaderList
  /** Apart from the POSTs: a stream for each session would take every connection that `max_connections` allows. */
  readonly #streams: Http1Client
  readonly #posts: Http1Client
  readonly #connections = new Set<SseConnection>()
  #isClosed = false

  constructor(options: SseTransportOptions) {
    const { keepsChallenge = false } = options
    const client = {
      ...options.client,
      keepsHeader: (name: string) =>
        name === 'content-type' ||
        name === 'content-encoding' ||
        (keepsChallenge && name === 'www-authenticate'),
    }
    this.#options = options
    this.#url = client.url
    this.#staticHeaders = client.staticHeaders
    this.#streams = new Http1Client({ ...client, maxConnections: null })
    this.#posts = new Http1Client(client)
  }

  async open(
    listener: MessageListener,
    headers: HeaderList,
    signal: AbortSignal,
  ): Promise<MessageConnection> {
    if (this.#isClosed)
      throw new AdapterError(
        'ADAPTER_STOPPING',
        'the connections to the upstream server are being closed',
      )
    const { client, maxEventBytes, endpointTimeoutMs, postTimeoutMs } = this.#options
    const connection: SseConnection = new SseConnection({
      url: this.#url,
      stream: this.#streams,
      posts: (path) => this.#posts.at(path),
      staticHeaders: this.#staticHeaders,
      maxEventBytes,
      openTimeoutMs: client.connectTimeoutMs + (endpointTimeoutMs ?? ENDPOINT_TIMEOUT_MS),
      postTimeoutMs: postTimeoutMs ?? POST_TIMEOUT_MS,
      listener,
      onOver: () => this.#connections.delete(connection),
    })
    this.#connections.add(connection)
    await connection.open(headers, signal)
    return connection
  }

  /** Connections that are open or being opened. */
  get size(): number {
    return this.#connections.size
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#connections].map((connection) => connection.close()))
    await Promise.all([this.#streams.close(), this.#posts.close()])
  }
}
