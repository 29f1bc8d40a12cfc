/**
 * Room for bytes. The total limit spans sessions and so is in another place than the session: bytes are claimed there first, then used in the session,
 * then the claim is replaced by the session's new share. A process that dies between leaves the total too high, never too low.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import type { FileRef, SessionKey } from '../records.ts'
import { listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { nameOf } from './keys.ts'
import { USABLE_MS } from './lua.ts'
import { CLAIM, PLAN_ROOM } from './room-scripts.ts'
import { settle } from './settlement.ts'

/** What uses the room. */
export interface Demand {
  readonly key: SessionKey
  readonly bytes: number
  /** A reservation that grows; empty when it is not that. */
  readonly reservationId: string
  /** A pending artifact that is committed; empty when it is not that. */
  readonly artifactId: string
  /**
   * Uses the room in the session: answers what the script did. `minFreed` bytes were not claimed and must come from evictions; after `claimEndsAtMs`
   * nothing is claimed any more.
   */
  use(minFreed: number, claimEndsAtMs: number): Promise<readonly unknown[]>
}

/** How it ended: what `use` answered, or why there was no room. */
type Outcome =
  | { readonly kind: 'used'; readonly answer: readonly unknown[] }
  | { readonly kind: 'refused'; readonly reason: string }

/** Attempts while others' claims are under way or what could be evicted changes. */
const MAX_ATTEMPTS = 24
/** Longest pause between two attempts, in milliseconds. */
const MAX_PAUSE_MS = 20

/** What was asked for in the total. */
type Claim =
  | { readonly kind: 'ok'; readonly id: string; readonly endsAtMs: number }
  | { readonly kind: 'full' | 'crowded' }

/** Claims, uses and settles. An answer of `use` that is not `ok` gives the claim back. */
export async function withRoom(ctx: RedisContext, demand: Demand): Promise<Outcome> {
  let minFreed = 0
  for (let attempt = 1; ; attempt++) {
    const claim = await claimBytes(ctx, demand.key, demand.bytes - minFreed, demand.bytes)
    if (claim.kind === 'ok') {
      const answer = await demand.use(minFreed, claim.endsAtMs)
      const outcome = outcomeOf(answer)
      await settle(ctx, demand.key, outcome === 'ok' ? textOf(answer[1]) : '', claim.id)
      if (outcome !== 'short') return { kind: 'used', answer }
      if (attempt >= MAX_ATTEMPTS) return { kind: 'refused', reason: 'global_quota' }
      minFreed = 0
      continue
    }
    // Without evictions it does not fit; with those that the session's own limit asks for it may.
    const plan = listOf(
      await ctx.onSession(
        PLAN_ROOM,
        demand.key,
        demand.bytes,
        demand.reservationId,
        demand.artifactId,
      ),
    )
    if (outcomeOf(plan) !== 'ok') return { kind: 'refused', reason: outcomeOf(plan) }
    const freed = numberOf(plan[1])
    const isNews = freed !== minFreed
    minFreed = freed
    if (attempt >= MAX_ATTEMPTS || (!isNews && claim.kind === 'full')) {
      return { kind: 'refused', reason: 'global_quota' }
    }
    if (!isNews) await sleep(1 + Math.random() * MAX_PAUSE_MS)
  }
}

/** Files of evicted items, as a script names them. */
export function evictedFiles(key: SessionKey, fields: readonly unknown[]): FileRef[] {
  return fields.map((field) => fileOf(key, textOf(field)))
}

/** The file of an item, named by a letter for its kind and its id. */
export function fileOf({ serverId, sessionId }: SessionKey, field: string): FileRef {
  return { serverId, sessionId, kind: kindOf(field), id: field.slice(1) }
}

function kindOf(field: string): FileRef['kind'] {
  return field.startsWith('u') ? 'uploads' : 'artifacts'
}

/** Claims bytes without asking for room, for what is there already. */
export async function claimAnyway(
  ctx: RedisContext,
  key: SessionKey,
  bytes: number,
): Promise<string> {
  const id = newId()
  await ctx.onAll(CLAIM, '', id, nameOf(key), bytes)
  return id
}

async function claimBytes(
  ctx: RedisContext,
  key: SessionKey,
  missing: number,
  wanted: number,
): Promise<Claim> {
  // Nothing always fits: what only says that it is still there need not ask.
  if (wanted === 0) return { kind: 'ok', id: '', endsAtMs: Number.MAX_SAFE_INTEGER }
  const id = newId()
  const { maxTotalBytes } = ctx.policy
  const answer = listOf(await ctx.onAll(CLAIM, optional(maxTotalBytes), id, nameOf(key), missing))
  const kind = outcomeOf(answer)
  if (kind !== 'ok') return { kind: kind === 'crowded' ? kind : 'full' }
  return { kind, id: missing > 0 ? id : '', endsAtMs: numberOf(answer[1]) + USABLE_MS }
}

function newId(): string {
  return randomBytes(16).toString('base64url')
}
