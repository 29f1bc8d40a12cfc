/** What every verb works with on Redis. */
import { Cluster } from 'ioredis'

import type { JsonObject, SessionKey } from '../records.ts'
import type { StorePolicy } from '../store.ts'
import { changeChannel, encodeChange } from './changes.ts'
import type { RedisClient } from './connection.ts'
import { nameOf, RedisKeys } from './keys.ts'
import { runBinary, runText, toUnavailable } from './script.ts'
import type { Script, ScriptArgument } from './script.ts'

/** Keys of a session outlive what a sweep should have ended by this, in milliseconds. */
const KEY_MARGIN_MS = 24 * 60 * 60 * 1000

/** What a store on Redis is made of. */
export interface RedisStoreOptions {
  /** Belongs to the caller: closing the store leaves it open. Without automatic pipelining, which loses the names of commands that are called by name. */
  readonly client: RedisClient
  /** What all keys and the channel begin with. */
  readonly keyBase: string
  readonly policy: StorePolicy
  /** Hears what an operator should know; never holds a secret. */
  readonly onWarning: (message: string) => void
  /** For tests: milliseconds that are added to Redis' own time. */
  readonly clockOffset?: () => number
  /** For tests: Unix milliseconds used instead of Redis' own time. */
  readonly frozenClock?: () => number
}

/** Who must drop a copy of a changed session: everybody, or everybody but the one that asked for the change (and so knows). */
type Audience = 'everyone' | 'others'

/** Sessions that are remembered as warned of. */
const MAX_WARNED = 1_000

/** What the contexts of one store have in common. */
interface Shared {
  readonly options: RedisStoreOptions
  readonly keys: RedisKeys
  readonly policyText: string
  readonly channel: string
  /** Names of sessions whose record could not be read. */
  readonly warned: Set<string>
}

/** Runs scripts for requests of one origin. */
export class RedisContext {
  readonly client: RedisClient
  readonly policy: StorePolicy
  readonly keys: RedisKeys
  /** Who asks: one port of one replica; empty when that is not known. */
  readonly origin: string
  readonly #shared: Shared
  readonly #isCluster: boolean

  private constructor(shared: Shared, origin: string) {
    this.client = shared.options.client
    this.policy = shared.options.policy
    this.keys = shared.keys
    this.#shared = shared
    this.origin = origin
    this.#isCluster = this.client instanceof Cluster
  }

  static create(options: RedisStoreOptions): RedisContext {
    const shared = {
      options,
      keys: new RedisKeys(options.keyBase),
      policyText: policyText(options.policy),
      channel: changeChannel(options.keyBase),
      warned: new Set<string>(),
    }
    return new RedisContext(shared, '')
  }

  /** The same for requests of another origin. */
  of(origin: string): RedisContext {
    return new RedisContext(this.#shared, origin)
  }

  /** Says that the record of a session can't be read, once. */
  warnUnreadable(key: SessionKey): void {
    const { warned, options } = this.#shared
    const name = nameOf(key)
    if (warned.has(name) || warned.size >= MAX_WARNED) return
    warned.add(name)
    options.onWarning(
      `the record of a session of server ${key.serverId} can't be read; it is ignored`,
    )
  }

  /** Runs a script on what belongs to a session. */
  onSession(script: Script, key: SessionKey, ...args: readonly ScriptArgument[]): Promise<unknown> {
    const all = [this.#clock(), this.#shared.policyText, ...args]
    return runText(this.client, script, this.#keysOf(key), all)
  }

  /** The same with Buffers in the answer. */
  onSessionBinary(
    script: Script,
    key: SessionKey,
    ...args: readonly ScriptArgument[]
  ): Promise<unknown> {
    const all = [this.#clock(), this.#shared.policyText, ...args]
    return runBinary(this.client, script, this.#keysOf(key), all)
  }

  /** Runs a script on what spans sessions. */
  onAll(script: Script, ...args: readonly ScriptArgument[]): Promise<unknown> {
    const keys = this.#isCluster ? this.keys.allGlobal : [this.keys.global]
    return runText(this.client, script, keys, [this.#clock(), ...args])
  }

  /** Runs a script on the bucket of a principal. */
  onBucket(script: Script, name: string, ...args: readonly ScriptArgument[]): Promise<unknown> {
    return runText(this.client, script, [this.keys.bucket(name)], [this.#clock(), ...args])
  }

  /** Channel and message for a script that publishes that a session changed. */
  invalidation(key: SessionKey, audience: Audience): readonly [channel: string, message: string] {
    const origin = audience === 'others' ? this.origin : ''
    return [this.#shared.channel, encodeChange({ kind: 'invalidate', origin, key })]
  }

  /** Channel and message for a script that publishes that a stream is to be taken over. */
  offer(key: SessionKey): readonly [channel: string, message: string] {
    return [this.#shared.channel, encodeChange({ kind: 'offered', origin: this.origin, key })]
  }

  /** Publishes a notification for the client of a session. */
  async announce(key: SessionKey, message: JsonObject): Promise<void> {
    const change = { kind: 'announced', origin: this.origin, key, message } as const
    try {
      await this.client.publish(this.#shared.channel, encodeChange(change))
    } catch (error) {
      throw toUnavailable(error)
    }
  }

  /**
   * What a script is told that it touches. A Cluster that is moving the slot must know all of it, so that it refuses, and is asked again, before the
   * script has done half of its work.
   */
  #keysOf(key: SessionKey): readonly string[] {
    const name = nameOf(key)
    return this.#isCluster ? this.keys.allOfSession(name) : [this.keys.session(name)]
  }

  #clock(): string {
    const { frozenClock, clockOffset } = this.#shared.options
    if (frozenClock !== undefined) return `=${Math.floor(frozenClock())}`
    return clockOffset === undefined ? '0' : String(Math.floor(clockOffset()))
  }
}

/** The policy as scripts of a session read it: numbers between colons, nothing for no limit. */
function policyText(policy: StorePolicy): string {
  const lifeMs = policy.allowRevival ? policy.tombstoneTtlMs : 0
  const keepMs = policy.idleTtlMs === null ? null : policy.idleTtlMs + lifeMs + KEY_MARGIN_MS
  const parts = [
    policy.idleTtlMs,
    lifeMs,
    policy.allowRevival ? 1 : 0,
    keepMs,
    policy.tombstoneTtlMs,
    policy.uploadTtlMs,
    policy.artifactTtlMs,
    policy.pendingGraceMs,
    policy.maxSessionBytes,
    policy.evictionPolicy === 'lru_artifacts_then_uploads' ? 1 : 0,
  ]
  return parts.map(optional).join(':')
}

/** A whole number for a script, or nothing. */
export function optional(value: number | null): string {
  return value === null ? '' : String(Math.floor(value))
}
