/** Tells the sums over sessions what an operation on one session did. */
import type { SessionKey } from '../records.ts'
import type { RedisContext } from './context.ts'
import { nameOf } from './keys.ts'
import { FORGET, SETTLE } from './session-scripts.ts'

/**
 * Hands a session's share over; empty for none. `claim` is what was set aside for the operation, empty for nothing. Never rejects: the operation is
 * done, whether or not this is. When it fails, too much is counted until the next operation of the session or a repair.
 */
export async function settle(
  ctx: RedisContext,
  key: SessionKey,
  share: string,
  claim = '',
): Promise<void> {
  await ctx.onAll(SETTLE, claim, nameOf(key), share).catch(() => undefined)
}

/** The same without waiting, for what no limit depends on: whoever asks over the same connection sees it. */
export function settleLater(ctx: RedisContext, key: SessionKey, share: string): void {
  void settle(ctx, key, share)
}

/** Forgets a session that is gone. Never rejects either: a sweep finds what is left. */
export async function forget(ctx: RedisContext, key: SessionKey): Promise<void> {
  await ctx.onAll(FORGET, nameOf(key)).catch(() => undefined)
}
