/** Artifacts on Redis: allocated while a tool runs, committed when their file is complete. */
import type { FinalArtifact } from '../artifact-operations.ts'
import type { ArtifactRecord, NewArtifact, SessionKey } from '../records.ts'
import type { ArtifactCommitted, ArtifactId } from '../store.ts'
import { bytesOf, listOf, outcomeOf, textOf } from './answers.ts'
import {
  ALLOCATE,
  COMMIT_ARTIFACT,
  DROP_ARTIFACT,
  DROP_REFUSED,
  LIST_ARTIFACTS,
  READ_ARTIFACT,
  TOUCH_PENDING,
} from './artifact-scripts.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { pack, unpackArtifact } from './record-codec.ts'
import { evictedFiles, withRoom } from './room.ts'
import { settle, settleLater } from './settlement.ts'

export async function allocateArtifact(
  ctx: RedisContext,
  key: SessionKey,
  artifact: NewArtifact,
): Promise<'allocated' | 'at_capacity' | 'session_gone'> {
  const most = optional(ctx.policy.maxArtifactsPerSession)
  const args = [artifact.artifactId, pack(artifact), most, ctx.origin]
  const answer = listOf(await ctx.onSession(ALLOCATE, key, ...args))
  const outcome = outcomeOf(answer)
  if (outcome === 'session_gone' || outcome === 'at_capacity') return outcome
  if (outcome === 'duplicate') throw new Error('an artifact with this id exists')
  settleLater(ctx, key, textOf(answer[1]))
  return 'allocated'
}

export async function touchPending(
  ctx: RedisContext,
  key: SessionKey,
  ids: readonly ArtifactId[],
): Promise<void> {
  if (ids.length > 0) await ctx.onSession(TOUCH_PENDING, key, ...ids)
}

export async function commitArtifact(
  ctx: RedisContext,
  key: SessionKey,
  id: ArtifactId,
  final: FinalArtifact,
): Promise<ArtifactCommitted> {
  if (!Number.isSafeInteger(final.sizeBytes) || final.sizeBytes < 0) {
    throw new RangeError(`an artifact can't have ${final.sizeBytes} bytes`)
  }
  const packed = pack(final)
  const outcome = await withRoom(ctx, {
    key,
    bytes: final.sizeBytes,
    reservationId: '',
    artifactId: id,
    use: async (minFreed, endsAtMs) => {
      const args = [id, final.sizeBytes, packed, minFreed, endsAtMs]
      return listOf(await ctx.onSessionBinary(COMMIT_ARTIFACT, key, ...args))
    },
  })
  if (outcome.kind === 'refused') return dropRefused(ctx, key, id, outcome.reason)
  const { answer } = outcome
  const result = outcomeOf(answer)
  switch (result) {
    case 'session_gone':
    case 'unknown':
      return { ok: false, reason: result }
    case 'session_quota':
      await settle(ctx, key, textOf(answer[1]))
      return { ok: false, reason: result }
  }
  const stored = unpackArtifact(bytesOf(answer[2]))
  if (stored === undefined) return { ok: false, reason: 'unknown' }
  return { ok: true, artifact: stored.record, evicted: evictedFiles(key, answer.slice(3)) }
}

export async function dropArtifact(
  ctx: RedisContext,
  key: SessionKey,
  id: ArtifactId,
): Promise<void> {
  const share = textOf(await ctx.onSession(DROP_ARTIFACT, key, id))
  if (share !== '') await settle(ctx, key, share)
}

export async function listArtifacts(
  ctx: RedisContext,
  key: SessionKey,
): Promise<readonly ArtifactRecord[]> {
  const answer = listOf(await ctx.onSessionBinary(LIST_ARTIFACTS, key))
  return answer
    .flatMap((bytes) => unpackArtifact(bytesOf(bytes)) ?? [])
    .toSorted((a, b) => a.record.createdAtMs - b.record.createdAtMs || a.order - b.order)
    .map(({ record }) => record)
}

export async function readArtifact(
  ctx: RedisContext,
  key: SessionKey,
  id: ArtifactId,
): Promise<ArtifactRecord | undefined> {
  return unpackArtifact(bytesOf(await ctx.onSessionBinary(READ_ARTIFACT, key, id)))?.record
}

/** On every refusal the artifact's record goes; that it was not there is the better answer. */
async function dropRefused(
  ctx: RedisContext,
  key: SessionKey,
  id: ArtifactId,
  reason: string,
): Promise<ArtifactCommitted> {
  const answer = listOf(await ctx.onSession(DROP_REFUSED, key, id))
  const outcome = outcomeOf(answer)
  if (outcome === 'session_gone' || outcome === 'unknown') return { ok: false, reason: outcome }
  await settle(ctx, key, textOf(answer[1]))
  return { ok: false, reason: reason === 'session_quota' ? reason : 'global_quota' }
}
