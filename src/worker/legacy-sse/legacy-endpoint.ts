/** The endpoint of one server for clients of the HTTP+SSE transport of 2024-11-05: their streams, and the POSTs that belong to them. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import { mintLegacyStreamId, ownerOf, parseLegacyStreamId } from '../../shared/ids.ts'
import type { LegacyStreamId } from '../../shared/ids.ts'
import type { Log } from '../../shared/log.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { fail } from '../exchange/failure.ts'
import type { SessionRegistry } from '../session/registry.ts'
import { LegacyStream } from './legacy-stream.ts'
import type { SessionEndpoint } from './legacy-stream.ts'

const KEEP_ALIVE_INTERVAL_MS = 15_000
/** Streams without a session at a time. */
const MAX_WITHOUT_SESSION = 1_024

/** What an endpoint works with. */
export interface LegacyEndpointOptions {
  readonly server: ServerConfig
  readonly config: Pick<Config, 'core'>
  /** Where Streamable HTTP is served. */
  readonly endpoint: SessionEndpoint
  readonly registry: SessionRegistry
  readonly replicaId: string
  /** Streams opened here must hash to this worker. */
  readonly placement: { readonly index: number; readonly workers: number }
  readonly log: Log
}

/** See the file comment. One per worker and server. */
export class LegacyEndpoint {
  readonly #options: LegacyEndpointOptions
  readonly #streams = new Map<LegacyStreamId, LegacyStream>()
  /** Sessions that are being ended. */
  readonly #ending = new Set<Promise<void>>()
  readonly #messagesPath: string
  readonly #keepAlive: NodeJS.Timeout
  #isLeaving = false

  constructor(options: LegacyEndpointOptions) {
    this.#options = options
    const { publicBaseUrl } = options.config.core
    // A proxy in front may serve the adapter below a path of its own.
    const prefix = publicBaseUrl === null ? '' : new URL(publicBaseUrl).pathname.replace(/\/$/, '')
    this.#messagesPath = `${prefix}${options.server.mountPath}/messages`
    this.#keepAlive = setInterval(() => {
      for (const stream of this.#streams.values()) stream.keepAlive()
    }, KEEP_ALIVE_INTERVAL_MS)
    this.#keepAlive.unref()
  }

  /** Opens a stream (GET), or takes a message for one (POST). */
  handle(exchange: Exchange): void {
    if (exchange.request.route === 'sse') this.#open(exchange)
    else this.#post(exchange)
  }

  /** Ends the streams, each when nothing is under way on it, and takes no more. */
  closeStreams(): void {
    this.#isLeaving = true
    for (const stream of this.#streams.values()) stream.leave()
  }

  /** Ends all streams, whatever is under way. Resolves when their sessions are ended; bounded. */
  async stop(): Promise<void> {
    clearInterval(this.#keepAlive)
    for (const stream of this.#streams.values()) stream.close()
    await Promise.all(this.#ending)
  }

  #open(exchange: Exchange): void {
    const { server, endpoint, registry, config, log } = this.#options
    const refusal = this.#refusal()
    if (refusal !== undefined) {
      fail(exchange, refusal, null)
      return
    }
    const id = this.#mint()
    const stream = new LegacyStream({
      exchange,
      messagesUri: `${this.#messagesPath}?sessionId=${id}`,
      server,
      endpoint,
      registry,
      maxEventBytes: config.core.maxResponseMessageBytes,
      onOver: (ended) => {
        this.#streams.delete(id)
        this.#ending.add(ended)
        void ended.finally(() => this.#ending.delete(ended))
        log.debug({ server: server.id }, 'legacy stream ended')
      },
    })
    this.#streams.set(id, stream)
    log.debug({ server: server.id }, 'legacy stream opened')
    stream.start()
  }

  #post(exchange: Exchange): void {
    const { target, principal } = exchange.request
    const named = parseLegacyStreamId(/[?&]sessionId=([^&]*)/.exec(target)?.[1] ?? '')
    const stream = named === undefined ? undefined : this.#streams.get(named.id)
    if (stream !== undefined && stream.principal === principal) stream.take(exchange)
    else if (named !== undefined && named.replicaId !== this.#options.replicaId)
      this.#postElsewhere(exchange)
    else fail(exchange, unknownStream(), null)
  }

  /** The stream is held by another replica, if by any: the one place where its message can be handed over. */
  #postElsewhere(exchange: Exchange): void {
    fail(
      exchange,
      new AdapterError(
        'ADAPTER_SESSION_UNKNOWN',
        'the stream of this session is at another replica, or gone; connect again, and see to it that requests of one client reach one replica',
      ),
      null,
    )
  }

  #refusal(): AdapterError | undefined {
    if (this.#isLeaving) {
      return new AdapterError(
        'ADAPTER_STOPPING',
        'this replica is stopping and opens no more streams; repeat the request',
      )
    }
    let withoutSession = 0
    for (const stream of this.#streams.values()) if (!stream.hasSession) withoutSession++
    return withoutSession < MAX_WITHOUT_SESSION
      ? undefined
      : new AdapterError(
          'ADAPTER_OVERLOADED',
          `${MAX_WITHOUT_SESSION} connections have not been initialised yet; try again shortly`,
        )
  }

  /** An id that hashes to this worker: what is POSTed to it comes here. */
  #mint(): LegacyStreamId {
    const { replicaId, placement } = this.#options
    for (;;) {
      const id = mintLegacyStreamId(replicaId)
      if (ownerOf(id, placement.workers) === placement.index) return id
    }
  }
}

/** All that is told of a stream that is not there, or somebody else's. */
function unknownStream(): AdapterError {
  return new AdapterError(
    'ADAPTER_SESSION_UNKNOWN',
    'no stream with this sessionId is open; connect again',
  )
}
