/** One worker's part in the hop: it asks others for what is bound to their connections, and answers for its own. */
import type { RemoteStore } from '../../shared/state/remote.ts'
import type { WorkerOptions } from '../../shared/worker-options.ts'
import type { Place } from '../../shared/place.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { HopClient } from './hop-client.ts'
import { handOver } from './handed-over-post.ts'
import type { BoundedServer } from './handed-over-post.ts'
import { HopEndpoint } from './hop-endpoint.ts'
import type { HopEndpointParts, LegacyReceiver } from './hop-endpoint.ts'
import { PlacedUpstream } from './placed-upstream.ts'
import { ReplicaDirectory } from './replica-directory.ts'

/** See the file comment. */
export class WorkerHop {
  readonly endpoint: HopEndpoint
  readonly #options: Pick<WorkerOptions, 'replicaId' | 'index'>
  readonly #client: HopClient
  /** This worker's own connections, by server. */
  readonly #locals = new Map<string, Upstream>()
  /** Of messages for legacy clients, by server. */
  readonly #receivers = new Map<string, LegacyReceiver>()

  constructor(
    options: Pick<WorkerOptions, 'replicaId' | 'index' | 'hopUrl' | 'hopSecrets'>,
    store: RemoteStore,
    counting: Pick<HopEndpointParts, 'events' | 'onRefusal'> = {},
  ) {
    const { events } = counting
    this.#options = options
    this.#client = new HopClient({
      directory: new ReplicaDirectory(store, options),
      secrets: options.hopSecrets,
      events,
    })
    this.endpoint = new HopEndpoint({
      upstreamOf: (serverId) => this.#locals.get(serverId),
      legacyOf: (serverId) => this.#receivers.get(serverId),
      ...counting,
    })
  }

  /** Makes an upstream whose sessions live on connections of this worker one that can be used from everywhere. Closing it closes `local`. */
  place(serverId: string, local: Upstream): Upstream {
    this.#locals.set(serverId, local)
    const { replicaId, index } = this.#options
    return new PlacedUpstream({
      serverId,
      local,
      place: { replicaId, worker: index },
      hop: this.#client,
    })
  }

  /** Has messages that others hand over for legacy clients of a server taken by `receiver`. */
  takeMessages(serverId: string, receiver: LegacyReceiver): void {
    this.#receivers.set(serverId, receiver)
  }

  /** Hands a message of a legacy client to who holds its stream, as one of the principal that was found here. */
  postElsewhere(place: Place, server: BoundedServer, exchange: Exchange): void {
    handOver(this.#client, place, server, exchange)
  }

  /** Fails what is under way to others with ADAPTER_STOPPING. */
  close(): Promise<void> {
    return this.#client.close()
  }
}
