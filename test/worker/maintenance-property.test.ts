/** Whatever clients and tools do while two replicas with differing clocks maintain: no file goes that a live, pending or tombstoned record names. */
/* oxlint-disable no-await-in-loop -- a history is one step after another */
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

import t, { type Test } from 'tap'

import { FileClock } from '../../src/shared/files/file-clock.ts'
import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintArtifactId, parseArtifactId } from '../../src/shared/ids.ts'
import type { FileRef, SessionKey } from '../../src/shared/state/records.ts'
import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'
import type { Clock } from '../../src/worker/maintenance/lease.ts'
import { LeasedLock } from '../../src/worker/maintenance/maintenance-lock.ts'
import { StoreLock } from '../../src/worker/maintenance/store-lock.ts'
import { Sweeper } from '../../src/worker/maintenance/sweeper.ts'
import { openRedisStore } from '../contract/redis-subject.ts'
import { startRedis } from '../support/redis.ts'
import { openTestStore, POLICY, sessionRecord, tempRoot } from './files-fixture.ts'
import { MINUTE, place, sha256, uploadRecord, uploadRef } from './maintenance-fixture.ts'

const LIFETIMES: StorePolicy = {
  ...POLICY,
  idleTtlMs: 8 * MINUTE,
  tombstoneTtlMs: 20 * MINUTE,
  uploadTtlMs: 25 * MINUTE,
  artifactTtlMs: 25 * MINUTE,
  pendingGraceMs: 5 * MINUTE,
}
const LEASE_MS = 20_000
const STEPS = 150

t.test('with a store in memory', async (t) => {
  for (const seed of [1, 2]) {
    await t.test(`history ${seed}`, async (t) => {
      const time = { aheadMs: 0 }
      await live(
        t,
        seed,
        time,
        openTestStore(t, LIFETIMES, () => Date.now() + time.aheadMs),
      )
    })
  }
})

t.test('with a store in Redis', async (t) => {
  const redis = await startRedis(t)
  const time = { aheadMs: 0 }
  const clockOffset = () => time.aheadMs
  await live(t, 4, time, await openRedisStore(t, [redis], LIFETIMES, { clockOffset }))
})

/** Lives through a history and looks after each step whether everything that a record names is there. */
async function live(
  t: Test,
  seed: number,
  time: { aheadMs: number },
  store: StateStore,
): Promise<void> {
  const files = new FileStore({ root: await tempRoot(t), atomicWrites: false })
  const world = new World(store, files, seed)
  const replicas = [-5_000, 5_000].map((skewMs, index) => {
    const clock: Clock = {
      monotonicMs: () => performance.now() + time.aheadMs + skewMs,
      wallMs: () => Date.now() + time.aheadMs + skewMs,
    }
    const lock = new LeasedLock(new StoreLock(store, `replica-${index}`, LEASE_MS), clock)
    const sweeper = new Sweeper({
      store,
      files,
      orphans: { enabled: true, graceMs: 5 * MINUTE },
      // Files of tests are as old as they are told to be; nobody waits for them.
      fileClock: new FileClock(join(files.root, 'sessions')),
      clock,
      aliveSessions: () => [],
      onSessionsEnded: () => {},
    })
    return { lock, sweeper }
  })
  const removed = { orphans: 0, items: 0, sessions: 0 }
  const maintain = async ({ lock, sweeper }: (typeof replicas)[number]): Promise<void> => {
    const tenure = await lock.hold()
    if (tenure === undefined) return
    const report = await sweeper.runOnce(tenure)
    removed.orphans += report.removedOrphanItems + report.removedOrphanSessions
    removed.items += report.removedUploads + report.removedArtifacts
    removed.sessions += report.removedTombstones
  }
  for (let step = 0; step < STEPS; step++) {
    time.aheadMs += Math.floor(world.random() ** 2 * 8 * MINUTE)
    await world.keepAlive()
    await Promise.all([
      ...replicas.filter(() => world.random() < 0.7).map(maintain),
      world.act(),
      world.act(),
      world.act(),
    ])
    const missing = await world.missingFiles()
    if (missing.length > 0) {
      t.fail(`after step ${step}: ${missing.join(', ')}`)
      return
    }
  }
  t.ok(world.checked > STEPS, `${world.checked} files were looked for`)
  t.ok(removed.orphans > 10, `${removed.orphans} orphans went`)
  t.ok(removed.items > 0, `${removed.items} items expired`)
  t.ok(removed.sessions > 0, `${removed.sessions} sessions ended`)
}

/** What is under way and will be ended by somebody. */
interface UnderWay {
  readonly ref: FileRef
  /** Of an upload. */
  readonly reservationId?: string
}

/** Clients, tools and the people who leave them. Every choice is the same for the same seed, as far as waiting allows. */
class World {
  readonly #store: StateStore
  readonly #files: FileStore
  readonly #sessions: SessionKey[] = []
  readonly #underWay: UnderWay[] = []
  #state: number
  checked = 0

  constructor(store: StateStore, files: FileStore, seed: number) {
    this.#store = store
    this.#files = files
    this.#state = seed
  }

  /** From 0 to 1 (mulberry32). */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }

  /** What replicas do for calls and uploads under way. */
  async keepAlive(): Promise<void> {
    const busy = this.#underWay.map(({ ref }) => ({ key: ref, callLeases: [] }))
    await this.#store.keepAlive(busy)
  }

  async act(): Promise<void> {
    const isOld = this.random() < 0.1
    const session = this.#pick(isOld ? this.#sessions : this.#sessions.slice(-6))
    const choice = this.random()
    if (session === undefined || choice < 0.1) await this.#open()
    else if (choice < 0.28) await this.#beginUpload(session)
    else if (choice < 0.42) await this.#beginCall(session)
    else if (choice < 0.75) await this.#end()
    else if (choice < 0.85) await this.#store.reviveSession(session)
    else if (choice < 0.93) await this.#leaveOrphan(session)
    else if (choice < 0.96) await this.#close(session)
    else await this.#store.touchSessions([session])
  }

  /** Items with a record whose file is not there. Those that are committed have one; pending ones do here, too. */
  async missingFiles(): Promise<string[]> {
    const missing: string[] = []
    for (const { serverId, sessionId } of this.#sessions) {
      const known = await this.#store.referencedItems({ serverId, sessionId })
      for (const kind of ['uploads', 'artifacts'] as const) {
        for (const id of known?.[kind] ?? []) {
          const path = this.#files.itemPath({ serverId, sessionId, kind, id }, 'a.txt')
          const isThere = await stat(path).then(
            () => true,
            () => false,
          )
          this.checked++
          if (!isThere) missing.push(path)
        }
      }
    }
    return missing
  }

  async #open(): Promise<void> {
    const record = sessionRecord('srv')
    await this.#store.openSession(record)
    this.#sessions.push({ serverId: record.serverId, sessionId: record.sessionId })
  }

  async #beginUpload(session: SessionKey): Promise<void> {
    const reserved = await this.#store.reserveBytes(session, 1)
    if (!reserved.ok) return
    const ref = uploadRef(session)
    await place(this.#files, ref, 'a.txt', this.#age())
    this.#underWay.push({ ref, reservationId: reserved.reservationId })
  }

  async #beginCall(session: SessionKey): Promise<void> {
    const artifactId = mintArtifactId()
    const artifact = { artifactId, filename: 'a.txt', toolName: 't', exposeAsResource: true }
    if ((await this.#store.allocateArtifact(session, artifact)) !== 'allocated') return
    const ref: FileRef = { ...uploadRef(session), kind: 'artifacts', id: artifactId }
    await place(this.#files, ref, 'a.txt', this.#age())
    this.#underWay.push({ ref })
  }

  /** As committed, as given up in order, or as left behind by a process that died. */
  async #end(): Promise<void> {
    const ending = this.#pick(this.#underWay)
    if (ending === undefined) return
    this.#underWay.splice(this.#underWay.indexOf(ending), 1)
    const { ref } = ending
    const how = this.random()
    if (how < 0.15) return
    const isKept = how < 0.8 && (await this.#commit(ending))
    if (isKept) return
    if (ending.reservationId !== undefined) {
      await this.#store.releaseBytes(ref, ending.reservationId)
    } else {
      const id = parseArtifactId(ref.id)
      if (id !== undefined) await this.#store.dropArtifact(ref, id)
    }
    if (how < 0.9) await this.#files.removeItem(ref)
  }

  async #commit({ ref, reservationId }: UnderWay): Promise<boolean> {
    if (reservationId !== undefined) {
      const records = [uploadRecord(ref.id, 'a.txt')]
      return (await this.#store.commitUploads(ref, reservationId, records)).ok
    }
    const id = parseArtifactId(ref.id)
    if (id === undefined) return false
    const final = {
      filename: 'a.txt',
      mimeType: 'text/plain',
      sizeBytes: 1,
      sha256: sha256('x'),
    }
    return (await this.#store.commitArtifact(ref, id, final)).ok
  }

  async #leaveOrphan(session: SessionKey): Promise<void> {
    const of = this.random() < 0.5 ? session : sessionRecord('srv')
    // It may be swept, or go with its session, before it has its age.
    await place(this.#files, uploadRef(of), 'a.txt', this.#age()).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    })
  }

  async #close(session: SessionKey): Promise<void> {
    await this.#store.closeSession(session)
    await this.#files.removeSession(session)
    await rm(this.#files.sessionDir(session), { recursive: true, force: true })
  }

  /** Often older than any grace. */
  #age(): number {
    return Math.floor(this.random() * 30 * MINUTE)
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.random() * list.length)]
  }
}
