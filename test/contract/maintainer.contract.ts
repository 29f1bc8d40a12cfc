/** The one maintainer of a state store, and what it corrects. */
import type { Test } from 'tap'

import type { StateStore } from '../../src/shared/state/store.ts'
import type { ContractOpener } from './contract-subject.ts'
import {
  newArtifact,
  newSession,
  opened,
  policyWith,
  produced,
  reserved,
  uploaded,
} from './store-fixtures.ts'

/** Elects; throws when somebody else is the maintainer. */
async function elected(store: StateStore, holder: string): Promise<number> {
  const fence = await store.electMaintainer(holder, 1_000)
  if (fence === null) throw new Error(`${holder} is not the maintainer`)
  return fence
}

export function maintainerTests(t: Test, open: ContractOpener): void {
  t.test('there is one maintainer at a time, and its tokens only grow', async (t) => {
    const { store, advance } = await open(t, policyWith({}))
    const first = await elected(store, 'a')
    t.equal(await store.electMaintainer('b', 1_000), null)
    advance(900)
    t.equal(await elected(store, 'a'), first, 'renewed')
    advance(900)
    t.equal(await store.electMaintainer('b', 1_000), null)
    advance(101)
    const second = await elected(store, 'b')
    t.ok(second > first)
    t.equal(await store.electMaintainer('a', 1_000), null)
    await store.resignMaintainer('a')
    t.equal(await store.electMaintainer('a', 1_000), null, 'nobody resigns for another')
    await store.resignMaintainer('b')
    const third = await elected(store, 'a')
    t.ok(third > second)
    advance(1_001)
    t.ok(
      (await elected(store, 'a')) > third,
      'a lease that ended is a new one, also for its holder',
    )
  })

  t.test('who is not the maintainer any more changes nothing', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const paused = await elected(store, 'a')
    const session = await opened(store)
    advance(1_001)
    const fence = await elected(store, 'b')
    t.equal(await store.sweep(10, [], paused), 'fenced')
    t.equal(await store.repairCounters(paused), 'fenced')
    t.match(await store.inventory(), { sessions: 1, tombstones: 0 })
    t.match(await store.repairCounters(fence), { sessions: 0, bytes: 0 })
    t.match(await store.sweep(10, [], fence), { tombstonedSessions: 1 })
    t.equal((await store.readSession(session))?.state, 'tombstoned')
    advance(5_000)
    t.match(await store.sweep(10, [], fence), { tombstonedSessions: 0 }, 'nobody took over')
  })

  t.test('a repair changes nothing where all is well', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 100_000 }))
    const [session, idle] = [await opened(store), await opened(store)]
    await uploaded(store, session, 5)
    await produced(store, session, 6)
    await reserved(store, session, 7)
    await store.allocateArtifact(session, newArtifact())
    await uploaded(store, idle, 8)
    advance(99_000)
    await store.touchSessions([session])
    advance(1_001)
    t.match(await store.sweep(10, [session], null), { tombstonedSessions: 1 })
    const before = await store.inventory()
    t.match(before, { sessions: 1, tombstones: 1, bytes: 19, reservedBytes: 7 })
    t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 0 })
    t.strictSame(await store.inventory(), before)
    advance(61_000)
    t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 0 })
    t.strictSame(await store.inventory(), before)
    t.equal(await store.reviveSession(idle), 'active')
    await opened(store, newSession())
    t.equal((await store.inventory()).sessions, 3)
  })
}
