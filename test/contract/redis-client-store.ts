/** A whole `StateStore` on Redis in one object, for tests: what a replica does with a host and ports is here in one thread. */
import type { Redis } from 'ioredis'

import { mintReplicaId } from '../../src/shared/ids.ts'
import type { JsonObject, SessionKey } from '../../src/shared/state/records.ts'
import { RequestStore } from '../../src/shared/state/request-store.ts'
import { toRequest } from '../../src/shared/state/store-requests.ts'
import type { StoreValue, StoreVerb } from '../../src/shared/state/store-requests.ts'
import type { StateStore } from '../../src/shared/state/store.ts'
import { changeChannel, decodeChange } from '../../src/shared/state/redis/changes.ts'
import type { RedisStoreOptions } from '../../src/shared/state/redis/context.ts'
import { RedisStore } from '../../src/shared/state/redis/redis-store.ts'

/** Owns both connections. */
export class RedisClientStore extends RequestStore {
  readonly #store: RedisStore
  readonly #client: RedisStoreOptions['client']
  readonly #subscriber: Redis
  readonly #origin = mintReplicaId()
  readonly #invalidateListeners: ((key: SessionKey) => void)[] = []
  readonly #announcementListeners: ((key: SessionKey, message: JsonObject) => void)[] = []
  readonly #offerListeners: ((key: SessionKey) => void)[] = []
  #closing: Promise<void> | undefined

  private constructor(options: RedisStoreOptions, subscriber: Redis) {
    super()
    this.#store = new RedisStore(options)
    this.#client = options.client
    this.#subscriber = subscriber
    subscriber.on('message', (_channel: string, message: string) => this.#receive(message))
  }

  /** `subscriber` is a connection of its own; it is subscribed when this resolves. */
  static async open(options: RedisStoreOptions, subscriber: Redis): Promise<RedisClientStore> {
    const store = new RedisClientStore(options, subscriber)
    await subscriber.subscribe(changeChannel(options.keyBase))
    return store
  }

  override onInvalidate(listener: (key: SessionKey) => void): void {
    this.#invalidateListeners.push(listener)
  }

  override onStreamOffered(listener: (key: SessionKey) => void): void {
    this.#offerListeners.push(listener)
  }

  override onAnnounced(listener: (key: SessionKey, message: JsonObject) => void): void {
    this.#announcementListeners.push(listener)
  }

  override close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  protected override async perform<V extends StoreVerb>(
    verb: V,
    args: Parameters<StateStore[V]>,
  ): Promise<StoreValue<V>> {
    const value = await this.#store.perform(toRequest(verb, args), this.#origin)
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the store answers each verb with its own value
    return value as StoreValue<V>
  }

  #receive(message: string): void {
    const change = decodeChange(message)
    if (change === undefined || change.origin === this.#origin) return
    switch (change.kind) {
      case 'invalidate':
        for (const listener of this.#invalidateListeners) listener(change.key)
        return
      case 'offered':
        for (const listener of this.#offerListeners) listener(change.key)
        return
      case 'announced':
        for (const listener of this.#announcementListeners) listener(change.key, change.message)
    }
  }

  async #finish(): Promise<void> {
    await this.#store.close()
    this.#subscriber.disconnect()
    this.#client.disconnect()
  }
}
