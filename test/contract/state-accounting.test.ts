import * as fc from 'fast-check'
import t from 'tap'

import type { FileRef, SessionRecord } from '../../src/shared/state/records.ts'
import type { SqlStore } from '../../src/shared/state/sql-store.ts'
import type { ArtifactId } from '../../src/shared/state/store.ts'
import { openMemoryStore } from '../support/memory-store.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  newUpload,
  policyWith,
  sweptBy,
} from './store-fixtures.ts'

const MAX_SESSION_BYTES = 100
const MAX_TOTAL_BYTES = 180
const MAX_ACTIVE = 3
const MAX_ARTIFACTS = 3

/** What the store answered, summed up by somebody else. */
class Model {
  readonly store: SqlStore
  readonly sessions: SessionRecord[] = []
  /** Size by session and item; a pending artifact has none yet. */
  readonly items = new Map<string, number>()
  readonly pending: { session: SessionRecord; id: ArtifactId }[] = []
  readonly reservations: { session: SessionRecord; id: string; bytes: number }[] = []
  nowMs = 1_000_000

  constructor() {
    this.store = openMemoryStore(
      policyWith({
        maxActiveSessions: MAX_ACTIVE,
        idleTtlMs: 1_000,
        tombstoneTtlMs: 1_000,
        maxSessionBytes: MAX_SESSION_BYTES,
        maxTotalBytes: MAX_TOTAL_BYTES,
        maxArtifactsPerSession: MAX_ARTIFACTS,
        uploadTtlMs: 700,
        artifactTtlMs: 600,
        pendingGraceMs: 500,
      }),
      () => this.nowMs,
    )
  }

  removed(refs: readonly FileRef[]): void {
    for (const ref of refs) {
      if (!this.items.delete(`${ref.sessionId}/${ref.id}`)) this.dropPending(ref.id)
    }
  }

  dropPending(id: string): void {
    const index = this.pending.findIndex((artifact) => artifact.id === id)
    if (index === -1) throw new Error('the store removed an item that is not there')
    this.pending.splice(index, 1)
  }

  ended(session: SessionRecord): void {
    this.sessions.splice(this.sessions.indexOf(session), 1)
    for (const name of this.items.keys()) {
      if (name.startsWith(`${session.sessionId}/`)) this.items.delete(name)
    }
    remove(this.pending, (artifact) => artifact.session === session)
    remove(this.reservations, (reservation) => reservation.session === session)
  }

  /** Compares every sum of the store with the model's, and both with the limits. */
  async check(): Promise<void> {
    const inventory = await this.store.inventory()
    const bytes = sum([...this.items.values()])
    const reservedBytes = sum(this.reservations.map((reservation) => reservation.bytes))
    same('bytes', inventory.bytes, bytes)
    same('reservedBytes', inventory.reservedBytes, reservedBytes)
    same('items', inventory.uploads + inventory.artifacts, this.items.size)
    same('pending', inventory.pendingArtifacts, this.pending.length)
    same('sessions', inventory.sessions + inventory.tombstones, this.sessions.length)
    if (inventory.sessions > MAX_ACTIVE) throw new Error('too many sessions')
    if (bytes + reservedBytes > MAX_TOTAL_BYTES) throw new Error('too many bytes in total')
    await Promise.all(this.sessions.map((session) => this.#checkSession(session)))
  }

  async #checkSession(session: SessionRecord): Promise<void> {
    const known = await this.store.referencedItems(session)
    const ids = [...(known?.uploads ?? []), ...(known?.artifacts ?? [])]
    const pending = this.pending.filter((artifact) => artifact.session === session)
    const committed = [...this.items].filter(([name]) => name.startsWith(session.sessionId))
    same('items of a session', ids.length, committed.length + pending.length)
    const held = this.reservations.filter((reservation) => reservation.session === session)
    const bytes =
      sum(committed.map(([, size]) => size)) + sum(held.map((reservation) => reservation.bytes))
    if (bytes > MAX_SESSION_BYTES) throw new Error('too many bytes in one session')
  }
}

/** One thing that a client may do; `at` picks among what there is. */
type Step = readonly [verb: keyof typeof STEPS, at: number, size: number]

const STEPS = {
  async open(model: Model): Promise<void> {
    const session = newSession()
    if ((await model.store.openSession(session)) === 'opened') model.sessions.push(session)
  },
  async close(model: Model, at: number): Promise<void> {
    const session = pick(model.sessions, at)
    if (session === undefined) return
    await model.store.closeSession(session)
    model.ended(session)
  },
  async revive(model: Model, at: number): Promise<void> {
    const session = pick(model.sessions, at)
    if (session !== undefined) await model.store.reviveSession(session)
  },
  async reserve(model: Model, at: number, size: number): Promise<void> {
    const session = pick(model.sessions, at)
    if (session === undefined) return
    const outcome = await model.store.reserveBytes(session, size)
    if (!outcome.ok) return
    model.removed(outcome.evicted)
    model.reservations.push({ session, id: outcome.reservationId, bytes: size })
  },
  async grow(model: Model, at: number, size: number): Promise<void> {
    const reservation = pick(model.reservations, at)
    if (reservation === undefined) return
    const { session, id } = reservation
    const outcome = await model.store.reserveBytes(session, size, id)
    if (!outcome.ok) return
    model.removed(outcome.evicted)
    reservation.bytes += size
  },
  async release(model: Model, at: number): Promise<void> {
    const reservation = pick(model.reservations, at)
    if (reservation === undefined) return
    await model.store.releaseBytes(reservation.session, reservation.id)
    remove(model.reservations, (other) => other === reservation)
  },
  async upload(model: Model, at: number, size: number): Promise<void> {
    const reservation = pick(model.reservations, at)
    if (reservation === undefined) return
    const { session, id, bytes } = reservation
    const uploads = [newUpload(Math.min(size, bytes)), newUpload(bytes - Math.min(size, bytes))]
    const used = at % 2 === 0 ? uploads : uploads.slice(0, 1)
    const outcome = await model.store.commitUploads(session, id, used)
    if (!outcome.ok) return
    remove(model.reservations, (other) => other === reservation)
    for (const { uploadId, sizeBytes } of used) {
      model.items.set(`${session.sessionId}/${uploadId}`, sizeBytes)
    }
  },
  async allocate(model: Model, at: number): Promise<void> {
    const session = pick(model.sessions, at)
    if (session === undefined) return
    const artifact = newArtifact()
    if ((await model.store.allocateArtifact(session, artifact)) !== 'allocated') return
    model.pending.push({ session, id: artifact.artifactId })
  },
  async commit(model: Model, at: number, size: number): Promise<void> {
    const artifact = pick(model.pending, at)
    if (artifact === undefined) return
    const { session, id } = artifact
    const outcome = await model.store.commitArtifact(session, id, finalOf(size))
    if (!outcome.ok && outcome.reason === 'session_gone') return
    model.dropPending(id)
    if (!outcome.ok) return
    model.removed(outcome.evicted)
    model.items.set(`${session.sessionId}/${id}`, size)
  },
  async drop(model: Model, at: number): Promise<void> {
    const artifact = pick(model.pending, at)
    if (artifact === undefined) return
    await model.store.dropArtifact(artifact.session, artifact.id)
    model.dropPending(artifact.id)
  },
  async wait(model: Model, _at: number, size: number): Promise<void> {
    model.nowMs += size * 10
  },
  async sweep(model: Model, at: number): Promise<void> {
    const alive = pick(model.sessions, at)
    const swept = await sweptBy(model.store, at + 1, alive === undefined ? [] : [alive])
    for (const record of swept.sessions) {
      const session = model.sessions.find(({ sessionId }) => sessionId === record.sessionId)
      if (session === undefined) throw new Error('the store ended a session that is not there')
      model.ended(session)
    }
    model.removed(swept.files)
  },
}

const step: fc.Arbitrary<Step> = fc.tuple(
  fc.constantFrom(
    ...(['open', 'close', 'revive', 'reserve', 'grow', 'release', 'upload'] as const),
    ...(['allocate', 'commit', 'drop', 'wait', 'sweep'] as const),
    // What makes bytes, again: more of a sequence is spent near the limits.
    ...(['open', 'reserve', 'upload', 'allocate', 'commit', 'reserve', 'upload'] as const),
  ),
  fc.nat({ max: 5 }),
  fc.nat({ max: 60 }),
)

t.test(
  'after whatever sequence of operations the sums are exact and within the limits',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80, size: 'max' }), async (steps) => {
        const model = new Model()
        try {
          for (const [verb, at, size] of steps) {
            // oxlint-disable-next-line no-await-in-loop -- a sequence
            await STEPS[verb](model, at, size)
            // oxlint-disable-next-line no-await-in-loop -- after each of its steps
            await model.check()
          }
        } finally {
          await model.store.close()
        }
      }),
      { numRuns: 150 },
    )
    t.pass('no counterexample')
  },
)

function pick<T>(list: readonly T[], at: number): T | undefined {
  return list[at % Math.max(1, list.length)]
}

function remove<T>(list: T[], condition: (item: T) => boolean): void {
  list.splice(0, list.length, ...list.filter((item) => !condition(item)))
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + size, 0)
}

function same(what: string, actual: number, expected: number): void {
  if (actual !== expected) throw new Error(`${what}: the store has ${actual}, not ${expected}`)
}
