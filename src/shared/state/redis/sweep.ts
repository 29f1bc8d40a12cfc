/**
 * Ends what has expired, in bounded steps. Which sessions to look at is kept with what spans sessions, and may name some too early; what is done to one
 * is decided where the session is, by Redis' time.
 */
import type { FileRef, SessionKey, SessionRecord } from '../records.ts'
import type { SweepReport } from '../store.ts'
import { bytesOf, listOf, outcomeOf, textOf } from './answers.ts'
import { keepAlive } from './calls.ts'
import { optional } from './context.ts'
import type { RedisContext } from './context.ts'
import { keyOf } from './keys.ts'
import { readmit } from './readmission.ts'
import { fileOf } from './room.ts'
import { FIND_DUE, SETTLE_SWEEP, SWEEP_SESSION } from './sweep-scripts.ts'
import { readRecord } from './unreadable.ts'

/** Sessions that are stepped at a time, after one look at the fence. */
const WAVE = 8
/** Waves that one call may take, or its limit when that is more. */
const MIN_LOOKS = 32

/** A session that is to be looked at. */
interface Due {
  readonly name: string
  /** When it was due, and the time of its slot (empty for none), as they are kept. */
  readonly due: string
  readonly slot: string
}

/** What has been done so far. */
interface Progress {
  expired: number
  tombstoned: number
  removedTombstones: number
  removedUploads: number
  removedArtifacts: number
  readonly files: FileRef[]
  readonly records: SessionRecord[]
}

export async function sweep(
  ctx: RedisContext,
  limit: number,
  aliveKeys: readonly SessionKey[],
  fence: number | null,
): Promise<SweepReport | 'fenced'> {
  const progress: Progress = {
    expired: 0,
    tombstoned: 0,
    removedTombstones: 0,
    removedUploads: 0,
    removedArtifacts: 0,
    files: [],
    records: [],
  }
  let due = await findDue(ctx, fence, 1)
  if (due === 'fenced') return 'fenced'
  await keepAlive(
    ctx,
    aliveKeys.map((key) => ({ key, callLeases: [] })),
  )
  // A look ends a session or puts it off. Many that were used since they were put here last are only put off, so looks are bounded too.
  for (let looks = 0; looks < Math.max(limit, MIN_LOOKS); looks++) {
    const sessionsLeft = limit - sessionsOf(progress)
    const itemsLeft = limit - itemsOf(progress)
    if (sessionsLeft <= 0 || itemsLeft <= 0) break
    const size = Math.min(WAVE, sessionsLeft, itemsLeft)
    due = await findDue(ctx, fence, size)
    // What was done until now is done: whoever asked must hear of it. The next call is told that its time is over.
    if (due === 'fenced') return reportOf(progress, true)
    if (due.length === 0) return reportOf(progress, false)
    const items = Math.floor(itemsLeft / size)
    const steps = await Promise.all(due.map((session) => step(ctx, session, items)))
    for (const done of steps) done(progress)
  }
  return reportOf(progress, true)
}

async function findDue(
  ctx: RedisContext,
  fence: number | null,
  most: number,
): Promise<readonly Due[] | 'fenced'> {
  const answer = listOf(await ctx.onAll(FIND_DUE, optional(fence), most))
  if (outcomeOf(answer) === 'fenced') return 'fenced'
  const found: Due[] = []
  for (let i = 1; i + 2 < answer.length; i += 3) {
    const [name, due, slot] = answer.slice(i, i + 3).map(textOf)
    found.push({ name: name ?? '', due: due ?? '', slot: slot ?? '' })
  }
  return found
}

/** Looks at one session; answers what adds it to the progress. */
async function step(
  ctx: RedisContext,
  { name, due, slot }: Due,
  items: number,
): Promise<(progress: Progress) => void> {
  const key = keyOf(name)
  if (key === undefined) {
    await ctx.onAll(SETTLE_SWEEP, name, due, slot, 'none', '')
    return () => undefined
  }
  const message = ctx.invalidation(key, 'everyone')
  const [first, second, ...fields] = listOf(
    await ctx.onSessionBinary(SWEEP_SESSION, key, items, ...message),
  )
  const outcome = textOf(first)
  const isGone = outcome === 'expired' || outcome === 'removed'
  const share = isGone ? '' : textOf(second)
  const answer = await ctx.onAll(SETTLE_SWEEP, name, due, slot, outcome, share)
  if (answer === 'unknown') await readmit(ctx, [key])
  const files = fields.map((field) => fileOf(key, textOf(field)))
  if (!isGone) return (progress) => addItems(progress, outcome, files)
  const record = readRecord(ctx, key, bytesOf(second))
  return (progress) => {
    if (outcome === 'expired') progress.expired++
    else progress.removedTombstones++
    // Its directory goes as a whole, so its items are only listed when the record that names it is unreadable.
    if (record === undefined) progress.files.push(...files)
    else progress.records.push(record)
  }
}

function addItems(progress: Progress, outcome: string, files: readonly FileRef[]): void {
  if (outcome === 'tombstoned') progress.tombstoned++
  for (const file of files) {
    if (file.kind === 'uploads') progress.removedUploads++
    else progress.removedArtifacts++
    progress.files.push(file)
  }
}

function sessionsOf({ expired, tombstoned, removedTombstones }: Progress): number {
  return expired + tombstoned + removedTombstones
}

function itemsOf({ removedUploads, removedArtifacts }: Progress): number {
  return removedUploads + removedArtifacts
}

function reportOf(progress: Progress, more: boolean): SweepReport {
  return {
    expiredSessions: progress.expired,
    tombstonedSessions: progress.tombstoned,
    removedTombstones: progress.removedTombstones,
    removedUploads: progress.removedUploads,
    removedArtifacts: progress.removedArtifacts,
    files: progress.files,
    sessions: progress.records,
    more,
  }
}
