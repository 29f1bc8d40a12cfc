/** From the configuration to what the state thread is started with. */
import type { Config } from '../config/config.ts'
import { localStoreOptions, storePolicy } from './local-options.ts'
import type { LocalStoreOptions } from './open.ts'
import { redisConnectionOptions } from './redis/connection-options.ts'
import type { RedisConnectionOptions } from './redis/connection.ts'
import type { StorePolicy } from './store.ts'

/** What a replica does while the shared store can't be reached. */
export type UnavailablePolicy = Config['statePersistence']['unavailablePolicy']

/** A store that replicas share. Plain data. Holds secrets. */
export interface RedisStateOptions {
  readonly type: 'redis'
  readonly connection: RedisConnectionOptions
  /** What every key and channel begins with. */
  readonly keyBase: string
  /** Milliseconds between two checks while all is well. */
  readonly pingMs: number
  /** For how long checks must fail before the store counts as unavailable, in milliseconds. */
  readonly unavailableAfterMs: number
  readonly unavailablePolicy: UnavailablePolicy
  /** Forget what was stored before, unless another replica is there. */
  readonly refreshOnStartup: boolean
  readonly policy: StorePolicy
  /** What takes its place under `fallback_memory`. */
  readonly fallback: LocalStoreOptions
}

/** A store of whichever kind. */
export type StateOptions = LocalStoreOptions | RedisStateOptions

/** What the state thread is started with. */
export type StateThreadOptions = StateOptions & {
  readonly replicaId: string
  /** Where other replicas reach this one; null where they need not. */
  readonly hopUrl: string | null
  /** How often the thread says what it counted, in milliseconds; null: never. */
  readonly reportIntervalMs?: number | null
}

/** The store that a configuration asks for. Throws `ConfigError` when a file that the configuration names can't be read. */
export function stateOptions(config: Config): StateOptions {
  const { statePersistence: state } = config
  if (state.type !== 'redis') return localStoreOptions(config)
  return {
    type: 'redis',
    connection: redisConnectionOptions(state.redis),
    keyBase: state.redis.keyBase,
    pingMs: state.redis.pingSeconds * 1_000,
    unavailableAfterMs: state.redis.unavailableAfterSeconds * 1_000,
    unavailablePolicy: state.unavailablePolicy,
    refreshOnStartup: state.refreshOnStartup,
    policy: storePolicy(config),
    fallback: {
      ...localStoreOptions(config),
      type: 'memory',
      snapshotPath: null,
      refreshOnStartup: false,
    },
  }
}
