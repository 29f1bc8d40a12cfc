/**
 * Names of keys in Redis. All keys of a session share one hash tag, and so do those that span sessions: a script touches keys of one slot only.
 *
 * Of a session, after `<key base>:{s:<server>:<session>}`: nothing (hash: record, state, times, sums), `:i` items, `:z` their sizes, `:u` `:a` `:p`
 * uploads, artifacts and pending artifacts by use, `:r` `:rt` reservations and their times, `:o` who began what is under way, `:n` nonces, `:c` `:cn`
 * leases of calls, `:e` kept events.
 *
 * Of a principal, `<key base>:{r:<hash>}`: what is left of its requests, and when.
 *
 * Of all, after `<key base>:{g}`: `:active` sessions that hold a slot by use, `:due` when a session is to be looked at, `:shares` what each session
 * adds to `:totals`, `:claims` `:claim-times` bytes that are about to be added, `:streams` `:stream-ends` `:stream-holders` leases of standalone
 * streams, `:maintainer` and `:fence`; by `replica-watch.ts`, `:replicas` who is there and when each said so, `:hops` where they reach each other, `:mark` what
 * is lost with the data.
 */
import { parseSessionId } from '../../ids.ts'
import type { SessionKey } from '../records.ts'

/** What follows the tag, see above. */
const OF_SESSION = ['', ':i', ':z', ':u', ':a', ':p', ':r', ':rt', ':o', ':n', ':c', ':cn', ':e']
const OF_ALL = [
  '',
  ':active',
  ':due',
  ':shares',
  ':totals',
  ':claims',
  ':claim-times',
  ':streams',
  ':stream-ends',
  ':stream-holders',
  ':maintainer',
  ':fence',
]

/** Names keys for one key base. */
export class RedisKeys {
  /** What keys that span sessions begin with; scripts add the rest. */
  readonly global: string
  /** The first is what scripts add to; the others are all that they touch. */
  readonly allGlobal: readonly string[]
  readonly #keyBase: string

  constructor(keyBase: string) {
    this.#keyBase = keyBase
    this.global = `${keyBase}:{g}`
    this.allGlobal = OF_ALL.map((suffix) => this.global + suffix)
  }

  /** The hash of a session, and what its other keys begin with. */
  session(name: string): string {
    return `${this.#keyBase}:{s:${name}}`
  }

  /** All keys of a session. */
  allOfSession(name: string): readonly string[] {
    const hash = this.session(name)
    return OF_SESSION.map((suffix) => hash + suffix)
  }

  /** The bucket of a principal, whose name is hashed. */
  bucket(name: string): string {
    return `${this.#keyBase}:{r:${name}}`
  }

  /** A glob pattern for all keys of all sessions. */
  get sessionPattern(): string {
    return `${this.#keyBase.replaceAll(/[\\*?[\]]/g, String.raw`\$&`)}:{s:*`
  }
}

/** A session as member of sets that span sessions. */
export function nameOf({ serverId, sessionId }: SessionKey): string {
  return `${serverId}:${sessionId}`
}

/** The session that has this name; undefined when it can't be one of ours. */
export function keyOf(name: string): SessionKey | undefined {
  const colon = name.lastIndexOf(':')
  const sessionId = parseSessionId(name.slice(colon + 1))
  return sessionId === undefined ? undefined : { serverId: name.slice(0, colon), sessionId }
}
