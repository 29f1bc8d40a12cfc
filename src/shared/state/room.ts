/** Makes room for bytes: who may have how many, and what is evicted for them. */
import type { FileRef } from './records.ts'
import type { StoredSession } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import type { StorePolicy } from './store.ts'

/** Outcome of making room; what was evicted has no record any more. */
export type Room =
  | { readonly ok: true; readonly evicted: readonly FileRef[] }
  | { readonly ok: false; readonly reason: 'session_quota' | 'global_quota' }

/** Victims that one query looks up: an eviction rarely needs more. */
const VICTIM_BATCH = 32

/** Thrown inside a savepoint to undo evictions that did not help. */
class GlobalQuotaReached extends Error {}

/**
 * Makes `bytes` more fit into a session and under the total limit, evicting least recently used items of the session when, and only when, that
 * makes them fit. Pending items count nothing and are never evicted.
 */
export function makeRoom(ctx: StoreContext, session: StoredSession, bytes: number): Room {
  const { maxSessionBytes, maxTotalBytes } = ctx.policy
  const wanted = session.usedBytes + session.reservedBytes + bytes
  const excess = maxSessionBytes === null ? 0 : wanted - maxSessionBytes
  if (excess > session.usedBytes) return { ok: false, reason: 'session_quota' }
  const totalAfter = totalBytes(ctx) + bytes
  const fits = (freed: number): boolean =>
    maxTotalBytes === null || totalAfter - freed <= maxTotalBytes
  if (excess <= 0) {
    return fits(0) ? { ok: true, evicted: [] } : { ok: false, reason: 'global_quota' }
  }
  if (!fits(session.usedBytes)) return { ok: false, reason: 'global_quota' }
  // Who goes is decided by it. Not below, where it could be undone.
  ctx.uses.write(ctx.db)
  try {
    return ctx.db.savepoint(() => {
      const { evicted, freed } = evict(ctx, session, excess)
      if (!fits(freed)) throw new GlobalQuotaReached()
      return { ok: true, evicted }
    })
  } catch (error) {
    if (error instanceof GlobalQuotaReached) return { ok: false, reason: 'global_quota' }
    throw error
  }
}

/** The moment before which an item of this kind counts as unused for too long; undefined when items of this kind never expire. */
export function itemCutoff(
  policy: StorePolicy,
  kind: FileRef['kind'],
  nowMs: number,
): number | undefined {
  const ttlMs = kind === 'uploads' ? policy.uploadTtlMs : policy.artifactTtlMs
  return ttlMs === null ? undefined : nowMs - ttlMs
}

interface Eviction {
  readonly evicted: FileRef[]
  freed: number
}

function evict(ctx: StoreContext, session: StoredSession, excess: number): Eviction {
  const eviction: Eviction = { evicted: [], freed: 0 }
  const kinds: readonly FileRef['kind'][] =
    ctx.policy.evictionPolicy === 'lru_uploads_then_artifacts'
      ? ['uploads', 'artifacts']
      : ['artifacts', 'uploads']
  // What has expired is of no use to anybody, so it goes before anything that is.
  for (const kind of kinds) {
    const cutoff = itemCutoff(ctx.policy, kind, ctx.now())
    if (cutoff !== undefined) evictKind(ctx, session, { kind, before: cutoff, excess }, eviction)
  }
  for (const kind of kinds) {
    evictKind(ctx, session, { kind, before: Number.MAX_SAFE_INTEGER, excess }, eviction)
  }
  return eviction
}

function evictKind(
  ctx: StoreContext,
  session: StoredSession,
  want: { readonly kind: FileRef['kind']; readonly before: number; readonly excess: number },
  eviction: Eviction,
): void {
  while (eviction.freed < want.excess) {
    const victims = ctx.db.all<readonly [rowId: number, id: string, sizeBytes: number]>(
      `SELECT id, item_id, size_bytes FROM items WHERE session = ? AND kind = ? AND pending = 0 AND size_bytes > 0 AND last_accessed_ms < ?
        ORDER BY last_accessed_ms, id LIMIT ${VICTIM_BATCH}`,
      session.rowId,
      want.kind,
      want.before,
    )
    if (victims.length === 0) return
    for (const [rowId, id, sizeBytes] of victims) {
      if (eviction.freed >= want.excess) return
      ctx.db.run('DELETE FROM items WHERE id = ?', rowId)
      eviction.freed += sizeBytes
      const { serverId, sessionId } = session
      eviction.evicted.push({ serverId, sessionId, kind: want.kind, id })
    }
  }
}

function totalBytes(ctx: StoreContext): number {
  return ctx.db.get<readonly [number]>('SELECT bytes + reserved_bytes FROM totals')?.[0] ?? 0
}
