/** The buckets of principals in a store that one process has for itself. They are full again when it starts. */
import type { StoreContext } from './store-context.ts'
import type { RequestsTaken } from './store.ts'

/** Buckets that are kept before those that are full again are forgotten. */
const MAX_BUCKETS = 10_000

export function takeRequests(ctx: StoreContext, principal: string, count: number): RequestsTaken {
  checkCount(count)
  const rate = ctx.policy.requestRate
  if (rate === null) return { granted: count, retryAfterMs: 0 }
  const { buckets } = ctx.leases
  const nowMs = ctx.now()
  const perMs = rate.perMinute / 60_000
  const levelOf = ({ level, atMs }: { level: number; atMs: number }): number =>
    Math.min(rate.burst, level + Math.max(0, nowMs - atMs) * perMs)
  const known = buckets.get(principal)
  if (known === undefined && buckets.size >= MAX_BUCKETS) {
    for (const [name, bucket] of buckets) if (levelOf(bucket) >= rate.burst) buckets.delete(name)
  }
  const level = known === undefined ? rate.burst : levelOf(known)
  const granted = Math.min(count, Math.floor(level))
  // A clock that was set back gives nothing twice.
  buckets.set(principal, { level: level - granted, atMs: Math.max(nowMs, known?.atMs ?? 0) })
  return { granted, retryAfterMs: granted > 0 ? 0 : Math.ceil((1 - level) / perMs) }
}

/** Throws for a count that nobody can ask for. */
export function checkCount(count: number): void {
  if (!Number.isSafeInteger(count) || count < 1)
    throw new RangeError(`cannot take ${count} requests: it must be a whole number of at least 1`)
}
