/** Stores on a real Redis for contracts and races. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'

import { Cluster, Redis } from 'ioredis'
import type { Test } from 'tap'

import type { RedisStoreOptions } from '../../src/shared/state/redis/context.ts'
import { RedisStore } from '../../src/shared/state/redis/redis-store.ts'
import { RequestStore } from '../../src/shared/state/request-store.ts'
import { toRequest } from '../../src/shared/state/store-requests.ts'
import type { StoreValue, StoreVerb } from '../../src/shared/state/store-requests.ts'
import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'
import type { RedisServer } from '../support/redis.ts'
import type { ContractOpener } from './contract-subject.ts'
import { RedisClientStore } from './redis-client-store.ts'

/** Where frozen clocks begin, in Unix milliseconds. */
const START_MS = 1_000_000

/** A key base of its own, so that tests can share a server. */
export function newKeyBase(): string {
  return `test-${randomBytes(6).toString('hex')}`
}

/** How a store is opened besides its policy. */
export interface RedisSubject {
  readonly keyBase?: string
  readonly frozenClock?: () => number
  readonly clockOffset?: () => number
  readonly onWarning?: (message: string) => void
}

/** One store with connections of its own, closed when `t` ends. Several servers are a Cluster. */
export async function openRedisStore(
  t: Test,
  servers: readonly RedisServer[],
  policy: StorePolicy,
  { keyBase = newKeyBase(), ...rest }: RedisSubject = {},
): Promise<RedisClientStore> {
  const client = await connect(servers)
  const [first] = servers
  const subscriber = new Redis(first?.port ?? 0, '127.0.0.1')
  const options: RedisStoreOptions = { client, keyBase, policy, onWarning: ignore, ...rest }
  const store = await RedisClientStore.open(options, subscriber)
  t.teardown(() => store.close())
  return store
}

/** A client that is connected; whoever asks closes it. */
export async function connect(servers: readonly RedisServer[]): Promise<Redis | Cluster> {
  const nodes = servers.map(({ port }) => ({ host: '127.0.0.1', port }))
  const [node] = nodes
  const client =
    nodes.length > 1
      ? new Cluster(nodes, { redisOptions: { maxRetriesPerRequest: 0 } })
      : new Redis({ ...node, maxRetriesPerRequest: 0 })
  client.on('error', ignore)
  if (client.status !== 'ready') await once(client, 'ready')
  return client
}

/** Opens subjects for contracts, each with a clock that stands still. */
export function redisOpener(servers: readonly RedisServer[]): ContractOpener {
  return async (t, policy) => {
    let nowMs = START_MS
    const store = await openRedisStore(t, servers, policy, { frozenClock: () => nowMs })
    return {
      store,
      advance(ms) {
        nowMs += ms
      },
      isShared: true,
    }
  }
}

/** A store that only asks: who races needs to hear nothing. Leaves its client open. */
export class BareRedisStore extends RequestStore {
  readonly #store: RedisStore

  constructor(options: RedisStoreOptions) {
    super()
    this.#store = new RedisStore(options)
  }

  override onInvalidate(): void {}

  override onStreamOffered(): void {}

  override onAnnounced(): void {}

  override close(): Promise<void> {
    return this.#store.close()
  }

  protected override async perform<V extends StoreVerb>(
    verb: V,
    args: Parameters<StateStore[V]>,
  ): Promise<StoreValue<V>> {
    const value = await this.#store.perform(toRequest(verb, args), 'racer')
    return value as StoreValue<V> // the store answers each verb with its own value
  }
}

function ignore(): void {}
