/** Operations on Redis that others overtake between two of their steps, at each of them. */
import t from 'tap'
import type { Test } from 'tap'

import type { StorePolicy } from '../../src/shared/state/store.ts'
import { startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { overtakenBefore } from './redis-steps.ts'
import { BareRedisStore, connect, newKeyBase } from './redis-subject.ts'
import { SumWatch } from './redis-sums.ts'
import {
  newSession,
  newUpload,
  opened,
  policyWith,
  reserved,
  sweptBy,
  uploaded,
} from './store-fixtures.ts'

t.setTimeout(600_000)

/** More steps than any operation has. */
const MAX_STEPS = 16

let server: RedisServer

t.before(async () => {
  server = await startRedis(t)
})

/** One key base with a store that is overtaken and one that overtakes. */
interface Scene {
  readonly slow: BareRedisStore
  readonly quick: BareRedisStore
  readonly sums: SumWatch
  readonly advance: (ms: number) => void
}

/** What happens: `prepare`, then `slow` begins, is overtaken by `quick`, and ends; then `check`. */
interface Plot<T> {
  readonly policy: Partial<StorePolicy>
  prepare(scene: Scene): Promise<T>
  slow(scene: Scene, prepared: T): Promise<unknown>
  quick(scene: Scene, prepared: T): Promise<unknown>
  check(t: Test, scene: Scene, prepared: T): Promise<void>
}

/** Plays a plot for each step at which the slow one can be overtaken. */
async function atEachStep<T>(t: Test, plot: Plot<T>): Promise<void> {
  for (let step = 1; step <= MAX_STEPS; step++) {
    // oxlint-disable no-await-in-loop -- one play after the other
    const clients = [await connect([server]), await connect([server])] as const
    let offsetMs = 0
    const base = {
      keyBase: newKeyBase(),
      policy: policyWith(plot.policy),
      onWarning: () => undefined,
      clockOffset: () => offsetMs,
    }
    let overtake: (() => Promise<unknown>) | undefined
    let isPlaying = false
    // Counted from where the slow one begins.
    const stepped = overtakenBefore(clients[0], step, {
      act: async () => overtake?.(),
      offsetMs: () => offsetMs,
    })
    const scene: Scene = {
      slow: new BareRedisStore({ ...base, client: stepped.client }),
      quick: new BareRedisStore({ ...base, client: clients[1] }),
      sums: new SumWatch(clients[1], base.keyBase),
      advance: (ms) => {
        offsetMs += ms
      },
    }
    try {
      const prepared = await plot.prepare(scene)
      overtake = async () => {
        isPlaying = true
        await plot.quick(scene, prepared)
      }
      await plot.slow(scene, prepared)
      if (!isPlaying) {
        t.ok(step > 2, `it has ${step - 1} steps`)
        return
      }
      await t.test(`before step ${step}`, async (t) => {
        await scene.sums.look()
        t.strictSame(scene.sums.undercounted, [], 'not too little is counted')
        await plot.check(t, scene, prepared)
      })
    } finally {
      for (const client of clients) client.disconnect()
    }
    // oxlint-enable no-await-in-loop
  }
  t.fail('it never ended')
}

t.test('a sweep that an upload overtakes still finds it later', async (t) => {
  await atEachStep(t, {
    policy: { uploadTtlMs: 60_000, idleTtlMs: 1e9 },
    async prepare({ quick, advance }) {
      const session = await opened(quick)
      await uploaded(quick, session, 1)
      advance(60_001)
      return session
    },
    slow: ({ slow }) => slow.sweep(10, [], null),
    quick: ({ quick }, session) => uploaded(quick, session, 1),
    async check(t, { quick, advance }) {
      advance(60_001)
      await sweptBy(quick, 10, [])
      t.match(await quick.inventory(), { uploads: 0 })
    },
  })
})

t.test('a sweep that a touch or a revival overtakes takes nobody the slot', async (t) => {
  await atEachStep(t, {
    policy: { idleTtlMs: 60_000, tombstoneTtlMs: 1e9, maxActiveSessions: 1 },
    async prepare({ quick, advance }) {
      const session = await opened(quick)
      advance(60_001)
      return session
    },
    slow: ({ slow }) => slow.sweep(10, [], null),
    quick: ({ quick }, session) => quick.reviveSession(session),
    async check(t, { quick }, session) {
      t.equal((await quick.readSession(session))?.state, 'active')
      t.equal(await quick.openSession(newSession()), 'at_capacity')
    },
  })
})

t.test('who wants the slot of an idle session does not get it when that is used', async (t) => {
  await atEachStep(t, {
    policy: { idleTtlMs: 60_000, tombstoneTtlMs: 1e9, maxActiveSessions: 2 },
    async prepare({ quick, advance }) {
      const sessions = [await opened(quick), await opened(quick)] as const
      advance(60_001)
      return sessions
    },
    slow: ({ slow }) => slow.openSession(newSession()),
    async quick({ quick }, [first, second]) {
      await quick.reviveSession(first)
      await quick.reviveSession(second)
    },
    async check(t, { quick, sums }) {
      const { active, countedActive } = await sums.look()
      t.strictSame({ active, countedActive }, { active: 2, countedActive: 2 })
      t.equal(await quick.openSession(newSession()), 'at_capacity')
    },
  })
})

t.test('a revival that a close overtakes leaves nothing', async (t) => {
  await atEachStep(t, {
    policy: { idleTtlMs: 60_000, tombstoneTtlMs: 1e9, maxActiveSessions: 1 },
    async prepare({ quick, advance }) {
      const session = await opened(quick)
      advance(60_001)
      return session
    },
    slow: ({ slow }, session) => slow.reviveSession(session),
    quick: ({ quick }, session) => quick.closeSession(session),
    async check(t, { quick, advance }) {
      advance(60_001)
      await sweptBy(quick, 10, [])
      t.match(await quick.inventory(), { sessions: 0, tombstones: 0 })
      t.equal(await quick.openSession(newSession()), 'opened')
    },
  })
})

t.test('an opening that takes too long gives up instead of passing the limit', async (t) => {
  await atEachStep(t, {
    policy: { maxActiveSessions: 1 },
    prepare: async () => newSession(),
    slow: ({ slow }, session) => slow.openSession(session).catch((error: unknown) => error),
    async quick({ quick, advance }) {
      advance(61_000)
      await quick.repairCounters(null)
      await quick.openSession(newSession())
    },
    async check(t, { sums }) {
      const { active, countedActive } = await sums.look()
      t.strictSame({ active, countedActive }, { active: 1, countedActive: 1 })
    },
  })
})

t.test('a reservation that takes too long claims anew instead of passing the limit', async (t) => {
  await atEachStep(t, {
    policy: { maxTotalBytes: 100 },
    prepare: async ({ quick }) => [await opened(quick), await opened(quick)] as const,
    slow: ({ slow }, [first]) => slow.reserveBytes(first, 60),
    async quick({ quick, advance }, [, second]) {
      advance(61_000)
      await quick.repairCounters(null)
      await quick.reserveBytes(second, 60)
    },
    async check(t, { sums }) {
      const { bytes, countedBytes } = await sums.look()
      t.strictSame({ bytes, countedBytes }, { bytes: 60, countedBytes: 60 })
    },
  })
})

t.test('a repair that others overtake makes nothing wrong', async (t) => {
  await atEachStep(t, {
    policy: { maxTotalBytes: 1_000, maxActiveSessions: 5 },
    async prepare({ quick }) {
      const session = await opened(quick)
      await uploaded(quick, session, 10)
      return { session, closed: await opened(quick), room: await reserved(quick, session, 20) }
    },
    slow: ({ slow }) => slow.repairCounters(null),
    async quick({ quick }, { session, closed, room }) {
      await opened(quick)
      await uploaded(quick, await opened(quick), 7)
      await quick.commitUploads(session, room.reservationId, [newUpload(15)])
      await reserved(quick, session, 5)
      await quick.closeSession(closed)
    },
    async check(t, { quick, sums }) {
      const { bytes, countedBytes, active, countedActive } = await sums.look()
      t.strictSame({ countedBytes, countedActive }, { countedBytes: bytes, countedActive: active })
      t.match(await quick.inventory(), { sessions: 3, bytes: 32, reservedBytes: 5, uploads: 3 })
    },
  })
})

t.test('a reservation that a close overtakes is refused and leaves nothing', async (t) => {
  await atEachStep(t, {
    policy: { maxSessionBytes: 100, maxTotalBytes: 100 },
    async prepare({ quick }) {
      const session = await opened(quick)
      await uploaded(quick, session, 90)
      return session
    },
    // Only an eviction makes it fit, so it is planned first.
    slow: ({ slow }, session) => slow.reserveBytes(session, 60),
    quick: ({ quick }, session) => quick.closeSession(session),
    async check(t, { quick }) {
      t.match(await quick.inventory(), { sessions: 0, bytes: 0, reservedBytes: 0, uploads: 0 })
    },
  })
})
