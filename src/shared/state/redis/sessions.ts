/** The life of a session on Redis: open, read, revive, touch, replace, close. */
import { StoreUnavailableError } from '../../errors.ts'
import type { SessionKey, SessionRecord } from '../records.ts'
import type { SessionView } from '../store.ts'
import { bytesOf, listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { nameOf } from './keys.ts'
import { pack } from './record-codec.ts'
import { readmit } from './readmission.ts'
import type { ScriptArgument } from './script.ts'
import {
  CLOSE,
  LOOK_BEFORE_REVIVAL,
  NOTE_USE,
  OPEN,
  READ,
  REPLACE,
  REVIVE,
  TOUCH,
} from './session-scripts.ts'
import { forget, settle } from './settlement.ts'
import { freeSlot, takeSlot } from './slots.ts'
import { readRecord } from './unreadable.ts'

const LATE = 'the state store took too long: the slot that was taken has been given up'

/** Sessions in one command that spans them: bounds how long it holds others up. */
const NOTE_BATCH = 500

export async function openSession(
  ctx: RedisContext,
  record: SessionRecord,
): Promise<'opened' | 'at_capacity'> {
  const slot = await takeSlot(ctx, record, 'open')
  if (slot.kind === 'full') return 'at_capacity'
  const outcome =
    slot.kind === 'taken'
      ? await ctx.onSession(OPEN, record, ...fieldsOf(record), slot.endsAtMs)
      : 'known'
  if (outcome === 'late') throw new StoreUnavailableError(LATE)
  if (outcome !== 'opened') throw new Error('a session with this id exists')
  return 'opened'
}

export async function readSession(
  ctx: RedisContext,
  key: SessionKey,
): Promise<SessionView | undefined> {
  const answer = await ctx.onSessionBinary(READ, key)
  if (!Array.isArray(answer)) return undefined
  const [bytes, standing, lastAccess, reason, drift] = listOf(answer)
  const record = readRecord(ctx, key, bytesOf(bytes))
  if (record === undefined) return undefined
  return {
    record,
    state: textOf(standing) === 'active' ? 'active' : 'tombstoned',
    lastAccessedAtMs: numberOf(lastAccess),
    terminalReason: Buffer.isBuffer(reason) ? textOf(reason) : null,
    drift: Buffer.isBuffer(drift) ? textOf(drift) : null,
  }
}

export async function reviveSession(
  ctx: RedisContext,
  key: SessionKey,
): Promise<'active' | 'at_capacity' | 'gone'> {
  const look = listOf(
    await ctx.onSession(LOOK_BEFORE_REVIVAL, key, ...ctx.invalidation(key, 'everyone')),
  )
  const found = outcomeOf(look)
  if (found === 'gone') return 'gone'
  if (found === 'active') {
    await noteUse(ctx, [nameOf(key)])
    return 'active'
  }
  const slot = await takeSlot(ctx, key, 'revive')
  if (slot.kind === 'full') {
    // It became a tombstone only now, so the slot that it had is free for somebody else.
    if (numberOf(look[2]) === 1) await freeSlot(ctx, key, slot.own, numberOf(look[1]))
    return 'at_capacity'
  }
  if (slot.kind !== 'taken') return 'gone'
  const revival = listOf(
    await ctx.onSession(REVIVE, key, ...ctx.invalidation(key, 'others'), slot.endsAtMs),
  )
  const outcome = outcomeOf(revival)
  if (outcome === 'late') throw new StoreUnavailableError(LATE)
  if (outcome === 'gone') {
    await freeSlot(ctx, key, slot.time, Number(slot.time))
    return 'gone'
  }
  if (outcome === 'revived') await settle(ctx, key, textOf(revival[1]))
  return 'active'
}

export async function touchSessions(
  ctx: RedisContext,
  keys: readonly SessionKey[],
): Promise<readonly (string | null | undefined)[]> {
  const noted = noteUse(ctx, keys.map(nameOf))
  const [unknown, ...answers] = await Promise.all([
    noted,
    ...keys.map((key) => ctx.onSession(TOUCH, key)),
  ])
  await readmit(
    ctx,
    unknown.flatMap((index) => (textOf(answers[index]) === '' ? [] : (keys[index] ?? []))),
  )
  return answers.map(upstreamIdOf)
}

/** Notes use where slots are given back; answers the positions of those that are not known there. */
export async function noteUse(
  ctx: RedisContext,
  names: readonly string[],
): Promise<readonly number[]> {
  const unknown: number[] = []
  const batches: Promise<void>[] = []
  for (let start = 0; start < names.length; start += NOTE_BATCH) {
    const batch = names.slice(start, start + NOTE_BATCH)
    batches.push(
      ctx.onAll(NOTE_USE, ...batch).then((answer) => {
        for (const index of listOf(answer)) unknown.push(start + numberOf(index))
      }),
    )
  }
  await Promise.all(batches)
  return unknown
}

export async function replaceUpstreamSession(
  ctx: RedisContext,
  next: SessionRecord,
  expectedUpstreamSessionId: string | null,
): Promise<boolean> {
  const answer = await ctx.onSession(
    REPLACE,
    next,
    ...fieldsOf(next),
    upstreamField(expectedUpstreamSessionId),
    ...ctx.invalidation(next, 'others'),
  )
  return answer === 1
}

export async function closeSession(
  ctx: RedisContext,
  key: SessionKey,
): Promise<SessionRecord | undefined> {
  const answer = await ctx.onSessionBinary(CLOSE, key, ...ctx.invalidation(key, 'others'))
  if (!Buffer.isBuffer(answer)) return undefined
  await forget(ctx, key)
  return readRecord(ctx, key, answer)
}

/** What a script stores of a record: the record itself, its version, and the upstream's id in a form that tells null from text. */
export function fieldsOf(record: SessionRecord): readonly ScriptArgument[] {
  return [pack(record), record.schemaVersion, upstreamField(record.upstreamSessionId)]
}

/** An upstream's id as scripts compare it: null is told from text. */
export function upstreamField(id: string | null): string {
  return id === null ? '0' : `1${id}`
}

function upstreamIdOf(answer: unknown): string | null | undefined {
  const text = textOf(answer)
  if (text === '') return undefined
  return text === '0' ? null : text.slice(1)
}
