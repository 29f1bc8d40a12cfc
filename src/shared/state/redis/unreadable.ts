/** Records that can't be read: one must not stop anything else. */
import type { SessionKey, SessionRecord } from '../records.ts'
import type { RedisContext } from './context.ts'
import { unpackSession } from './record-codec.ts'

/** The record; undefined, with a warning the first time, when this version can't read it. */
export function readRecord(
  ctx: RedisContext,
  key: SessionKey,
  bytes: Buffer,
): SessionRecord | undefined {
  const record = unpackSession(bytes, key)
  if (record === undefined) ctx.warnUnreadable(key)
  return record
}
