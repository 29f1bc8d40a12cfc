/** A process that dies between the steps of an operation on Redis: nothing is counted too little, and a repair makes all sums right again. */
import t from 'tap'
import type { Test } from 'tap'

import type { SessionRecord } from '../../src/shared/state/records.ts'
import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'
import { startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { BareRedisStore, connect, newKeyBase } from './redis-subject.ts'
import { cutAfter } from './redis-steps.ts'
import { SumWatch } from './redis-sums.ts'
import type { Sums } from './redis-sums.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  newUpload,
  opened,
  policyWith,
  produced,
  reserved,
  uploaded,
} from './store-fixtures.ts'

t.setTimeout(600_000)

/** More steps than any operation has. */
const MAX_STEPS = 12

const POLICY = policyWith({
  maxActiveSessions: 3,
  maxSessionBytes: 100,
  maxTotalBytes: 120,
  idleTtlMs: 600_000,
})

let server: RedisServer

t.before(async () => {
  server = await startRedis(t)
})

/** What is there before the operation, seen by a process that lives on. */
interface Scene {
  readonly store: BareRedisStore
  readonly sums: SumWatch
  readonly advance: (ms: number) => void
  /** The same state through a connection that is cut. */
  dying(steps: number): Promise<{ readonly store: BareRedisStore; wasReached(): boolean }>
}

async function sceneOf(t: Test, policy: StorePolicy): Promise<Scene> {
  const keyBase = newKeyBase()
  let offsetMs = 0
  const client = await connect([server])
  t.teardown(() => client.disconnect())
  const options = { keyBase, policy, onWarning: () => undefined, clockOffset: () => offsetMs }
  return {
    store: new BareRedisStore({ ...options, client }),
    sums: new SumWatch(client, keyBase),
    advance: (ms) => {
      offsetMs += ms
    },
    async dying(steps) {
      const other = await connect([server])
      t.teardown(() => other.disconnect())
      const { client: dying, wasReached } = cutAfter(other, steps)
      return { store: new BareRedisStore({ ...options, client: dying }), wasReached }
    },
  }
}

/** Lets an operation die after each of its steps, in a scene of its own. */
async function diesAfterEachStep<T>(
  t: Test,
  prepare: (scene: Scene) => Promise<T>,
  operate: (store: StateStore, prepared: T) => Promise<unknown>,
): Promise<void> {
  for (let steps = 1; steps <= MAX_STEPS; steps++) {
    // oxlint-disable no-await-in-loop -- one scene after the other
    const scene = await sceneOf(t, POLICY)
    const prepared = await prepare(scene)
    const dying = await scene.dying(steps)
    const failure = await operate(dying.store, prepared).then(
      () => undefined,
      (error: Error) => error,
    )
    if (failure !== undefined) t.equal(failure.name, 'StoreUnavailableError')
    const left = await scene.sums.look()
    t.strictSame(scene.sums.undercounted, [], `${steps} steps: not too little is counted`)
    t.ok(left.countedBytes <= 120 && left.countedActive <= 3, 'nor more than there may be')
    await scene.store.repairCounters(null)
    t.strictSame(scene.sums.undercounted, [], 'also not by a repair at once')
    scene.advance(61_000)
    const repair = await scene.store.repairCounters(null)
    t.not(repair, 'fenced')
    await countsRight(t, scene)
    await hasExactLimits(t, scene)
    // oxlint-enable no-await-in-loop
    if (!dying.wasReached()) {
      t.ok(steps > 2, `the operation has fewer than ${steps} steps`)
      return
    }
  }
  t.fail('the operation never ended')
}

async function countsRight(t: Test, { sums, store }: Scene): Promise<Sums> {
  const now = await sums.look()
  t.equal(now.countedBytes, now.bytes, 'bytes are counted right')
  t.equal(now.countedActive, now.active, 'sessions are counted right')
  t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 0 })
  return now
}

/** Fills up what is left: to the last byte and slot. */
async function hasExactLimits(t: Test, { store, sums }: Scene): Promise<void> {
  for (;;) {
    // oxlint-disable no-await-in-loop -- until it is full
    const record = newSession()
    if ((await store.openSession(record)) === 'at_capacity') break
    const before = await sums.look()
    const left = Math.min(100, 120 - before.bytes)
    t.match(await store.reserveBytes(record, left), { ok: true }, `${left} bytes fit`)
    // oxlint-enable no-await-in-loop
  }
  const { active, bytes } = await sums.look()
  t.equal(active, 3, 'every slot can be had')
  t.ok(bytes <= 120)
}

const one = async ({ store }: Scene): Promise<SessionRecord> => {
  const session = await opened(store)
  await uploaded(store, session, 50)
  return session
}

t.test('opening a session', async (t) => {
  await diesAfterEachStep(t, one, (store) => store.openSession(newSession()))
})

t.test('opening a session in the slot of an idle one', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      for (let i = 0; i < 3; i++) await opened(scene.store) // one after the other
      scene.advance(600_001)
    },
    (store) => store.openSession(newSession()),
  )
})

t.test('reviving a session', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      const session = await one(scene)
      scene.advance(600_001)
      return session
    },
    (store, session) => store.reviveSession(session),
  )
})

t.test('closing a session', async (t) => {
  await diesAfterEachStep(t, one, (store, session) => store.closeSession(session))
})

t.test('reserving bytes', async (t) => {
  await diesAfterEachStep(t, one, (store, session) => store.reserveBytes(session, 40))
})

t.test('reserving bytes that an eviction makes room for', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      const session = await one(scene)
      await reserved(scene.store, await opened(scene.store), 60)
      return session
    },
    (store, session) => store.reserveBytes(session, 60),
  )
})

t.test('releasing bytes', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      const session = await one(scene)
      return { session, ...(await reserved(scene.store, session, 40)) }
    },
    (store, { session, reservationId }) => store.releaseBytes(session, reservationId),
  )
})

t.test('committing uploads', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      const session = await one(scene)
      return { session, ...(await reserved(scene.store, session, 40)) }
    },
    (store, { session, reservationId }) =>
      store.commitUploads(session, reservationId, [newUpload(30)]),
  )
})

t.test('committing an artifact', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      const session = await one(scene)
      const artifact = newArtifact()
      await scene.store.allocateArtifact(session, artifact)
      return { session, id: artifact.artifactId }
    },
    (store, { session, id }) => store.commitArtifact(session, id, finalOf(60)),
  )
})

t.test('dropping an artifact', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      const session = await one(scene)
      return { session, ...(await produced(scene.store, session, 20)) }
    },
    (store, { session, id }) => store.dropArtifact(session, id),
  )
})

t.test('adopting what was found', async (t) => {
  await diesAfterEachStep(t, one, (store) =>
    store.adopt(newSession(), [newUpload(10), newUpload(20)], []),
  )
})

t.test('sweeping', async (t) => {
  await diesAfterEachStep(
    t,
    async (scene) => {
      await one(scene)
      await one(scene)
      scene.advance(600_001)
    },
    (store) => store.sweep(10, [], null),
  )
})
