/** What is pinned of a session's tools, and how they differ from it. */
import type { SessionKey } from './records.ts'
import { findUsableSession } from './session-rows.ts'
import type { StoreContext } from './store-context.ts'
import { MAX_PINNED_CHARS } from './store.ts'

export function pinCatalogue(
  ctx: StoreContext,
  key: SessionKey,
  tools: string,
): string | undefined {
  checkPinned(tools)
  const session = findUsableSession(ctx, key)
  if (session === undefined) return undefined
  ctx.db.run(
    'INSERT INTO catalogues (session, pinned) VALUES (?, ?) ON CONFLICT (session) DO UPDATE SET pinned = coalesce(pinned, excluded.pinned)',
    session.rowId,
    tools,
  )
  return ctx.db.get<readonly [string]>(
    'SELECT pinned FROM catalogues WHERE session = ?',
    session.rowId,
  )?.[0]
}

export function noteDrift(ctx: StoreContext, key: SessionKey, drift: string | null): boolean {
  const session = findUsableSession(ctx, key)
  if (session === undefined || readDrift(ctx, session.rowId) === drift) return false
  ctx.db.run(
    'INSERT INTO catalogues (session, drift) VALUES (?, ?) ON CONFLICT (session) DO UPDATE SET drift = excluded.drift',
    session.rowId,
    drift,
  )
  ctx.invalidate(key, 'others')
  return true
}

/** What was noted last of the session in this row. */
export function readDrift(ctx: StoreContext, rowId: number): string | null {
  return (
    ctx.db.get<readonly [string | null]>(
      'SELECT drift FROM catalogues WHERE session = ?',
      rowId,
    )?.[0] ?? null
  )
}

/** Throws for a text that is too long to be kept with a session. */
export function checkPinned(tools: string): void {
  if (tools.length > MAX_PINNED_CHARS) {
    throw new RangeError(`cannot pin ${tools.length} characters: at most ${MAX_PINNED_CHARS}`)
  }
}
