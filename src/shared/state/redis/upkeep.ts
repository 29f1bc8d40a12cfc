/** What start-up, orphan sweeping and health need of the store on Redis. */
import type {
  ArtifactRecord,
  FileRef,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from '../records.ts'
import type { Inventory, ReferencedItems } from '../store.ts'
import { ADOPT_ITEMS, ADOPT_SESSION, REFERENCED_ITEMS } from './adoption-scripts.ts'
import { listOf, numberOf, textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { pack } from './record-codec.ts'
import { INVENTORY } from './repair-scripts.ts'
import { claimAnyway, fileOf } from './room.ts'
import { fieldsOf } from './sessions.ts'
import { settle } from './settlement.ts'
import { freeSlot, takeSlot } from './slots.ts'

/** Items in one command: bounds how long it holds others up. */
const ITEM_BATCH = 100

export async function referencedItems(
  ctx: RedisContext,
  key: SessionKey,
): Promise<ReferencedItems | undefined> {
  const answer = await ctx.onSession(REFERENCED_ITEMS, key)
  if (!Array.isArray(answer)) return undefined
  const [reservations, fields] = listOf(answer)
  const files = listOf(fields).map((field) => fileOf(key, textOf(field)))
  return {
    uploads: files.filter(({ kind }) => kind === 'uploads').map(({ id }) => id),
    artifacts: files.filter(({ kind }) => kind === 'artifacts').map(({ id }) => id),
    isReserving: numberOf(reservations) > 0,
  }
}

export async function adopt(
  ctx: RedisContext,
  session: SessionRecord,
  uploads: readonly UploadRecord[],
  artifacts: readonly ArtifactRecord[],
): Promise<void> {
  await adoptSession(ctx, session)
  const items = [
    ...uploads.map((upload) => ({ field: `u${upload.uploadId}`, record: upload })),
    ...artifacts.map((artifact) => ({ field: `a${artifact.artifactId}`, record: artifact })),
  ]
  for (let start = 0; start < items.length; start += ITEM_BATCH) {
    const batch = items.slice(start, start + ITEM_BATCH)
    const bytes = batch.reduce((sum, { record }) => sum + record.sizeBytes, 0)
    const claim = await claimAnyway(ctx, session, bytes)
    const args = batch.flatMap(({ field, record }) => [field, record.sizeBytes, pack(record)])
    const share = await ctx.onSession(ADOPT_ITEMS, session, ...args)
    await settle(ctx, session, textOf(share), claim)
  }
}

/** Others use the same store: what a dead process left ends with its lease. */
export async function recoverAfterCrash(): Promise<readonly FileRef[]> {
  return []
}

export async function inventory(ctx: RedisContext): Promise<Inventory> {
  const answer = listOf(await ctx.onAll(INVENTORY)).map(numberOf)
  const [sessions = 0, tombstones = 0, uploads = 0, artifacts = 0] = answer
  const [, , , , pendingArtifacts = 0, bytes = 0, reservedBytes = 0] = answer
  return { sessions, tombstones, uploads, artifacts, pendingArtifacts, bytes, reservedBytes }
}

/**
 * One that was found on disk holds no slot that a client needs: without a free one it becomes a tombstone, which its client can revive.
 */
async function adoptSession(ctx: RedisContext, record: SessionRecord): Promise<void> {
  let slot = await takeSlot(ctx, record, 'adopt')
  if (slot.kind === 'full') slot = await takeSlot(ctx, record, 'adopt-anyway')
  const state = slot.kind === 'taken' ? 0 : 1
  const answer = await ctx.onSession(ADOPT_SESSION, record, ...fieldsOf(record), state)
  if (!Array.isArray(answer)) return
  // It was there, and what spans sessions may not have known of it.
  const [found, share] = listOf(answer).map(textOf)
  await settle(ctx, record, share ?? '')
  if (found === '1' && slot.kind === 'taken') {
    await freeSlot(ctx, record, slot.time, Number(slot.time))
  }
}
