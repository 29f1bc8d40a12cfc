/** One maintainer at a time, whatever keeps the lock and however its owner ends. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import t, { type Test } from 'tap'

import { FileLock } from '../../src/worker/maintenance/file-lock.ts'
import type { Clock } from '../../src/worker/maintenance/lease.ts'
import {
  LeasedLock,
  NoLock,
  type LockKeeper,
} from '../../src/worker/maintenance/maintenance-lock.ts'
import { StoreLock } from '../../src/worker/maintenance/store-lock.ts'
import { eventually } from '../support/eventually.ts'
import { openRedisStore } from '../contract/redis-subject.ts'
import { startRedis } from '../support/redis.ts'
import { openTestStore, POLICY, tempRoot } from './files-fixture.ts'

const LEASE_MS = 500
/** For what must not depend on how fast the machine is. */
const LONG_MS = 60_000

/** A clock that a test moves, far from everybody else's. */
class OwnClock implements Clock {
  #aheadMs: number

  constructor(aheadMs = 0) {
    this.#aheadMs = aheadMs
  }

  monotonicMs = (): number => performance.now() + this.#aheadMs
  wallMs = (): number => Date.now() + this.#aheadMs

  advance(ms: number): void {
    this.#aheadMs += ms
  }
}

type KeeperOpener = (t: Test, leaseMs?: number) => Promise<(owner: string) => LockKeeper>

const KEEPERS: Readonly<Record<string, KeeperOpener>> = {
  'a store in memory': async (t, leaseMs = LEASE_MS) => {
    const store = openTestStore(t)
    return (owner) => new StoreLock(store, owner, leaseMs)
  },
  'a store in Redis': async (t, leaseMs = LEASE_MS) => {
    const store = await openRedisStore(t, [await startRedis(t)], POLICY)
    return (owner) => new StoreLock(store, owner, leaseMs)
  },
  'a file': async (t, leaseMs = LEASE_MS) => {
    const directory = join(await tempRoot(t), 'maintenance.lock')
    return (owner) => new FileLock({ directory, owner, leaseMs })
  },
}

for (const [name, openKeeper] of Object.entries(KEEPERS)) {
  t.test(`kept by ${name}`, async (t) => {
    t.test('it is held until it is given back, and then is the next one’s at once', async (t) => {
      const open = await openKeeper(t, LONG_MS)
      const [a, b] = [new LeasedLock(open('a')), new LeasedLock(open('b'))]
      const first = await a.hold()
      t.equal(first?.holds, true)
      t.equal(await a.hold(), first, 'holding it again goes on')
      t.equal(await first?.renew(), true)
      t.equal(await b.hold(), undefined)
      await a.release()
      t.equal(first?.holds, false)
      const second = await b.hold()
      t.equal(second?.holds, true)
      t.equal(await a.hold(), undefined, 'who gave it back is out')
      await b.release()
    })

    t.test('an owner that is gone is followed when its lease is over, not before', async (t) => {
      const open = await openKeeper(t)
      const [gone, next] = [new LeasedLock(open('gone')), new LeasedLock(open('next'))]
      const startedAtMs = performance.now()
      const tenure = await gone.hold()
      // The clocks of the two differ, and neither is asked.
      t.equal(await next.hold(), undefined)
      await eventually('the next one takes over', async () => (await next.hold()) !== undefined)
      t.ok(performance.now() - startedAtMs >= LEASE_MS)
      t.equal(tenure?.holds, false, 'the first knows by itself')
      t.equal(await tenure?.renew(), false)
      t.equal(await gone.hold(), undefined, 'and is told')
    })

    t.test('an owner that was away for longer than its lease begins anew', async (t) => {
      const open = await openKeeper(t)
      const clock = new OwnClock(3_600_000)
      const lock = new LeasedLock(open('a'), clock)
      const before = await lock.hold()
      clock.advance(LEASE_MS)
      t.equal(before?.holds, false, 'before it asked anybody')
      let after = await lock.hold()
      await eventually('it is elected', async () => (after ??= await lock.hold()) !== undefined)
      t.not(after, before)
      t.equal(after?.holds, true)
      t.equal(before?.holds, false)
      t.equal(await before?.renew(), false)
    })

    t.test('an answer that came too late is not relied upon', async (t) => {
      const open = await openKeeper(t)
      const clock = new OwnClock()
      const keeper = open('a')
      const slow: LockKeeper = {
        leaseMs: LEASE_MS,
        isFencing: keeper.isFencing,
        claim: async (held) => {
          const token = await keeper.claim(held)
          clock.advance(LEASE_MS)
          return token
        },
        resign: (token) => keeper.resign(token),
      }
      t.equal(await new LeasedLock(slow, clock).hold(), undefined)
    })

    t.test('of many that try at once, and go away at random, never two have it', async (t) => {
      const open = await openKeeper(t)
      const random = generator(7)
      const held: { holds: boolean }[] = []
      let most = 0
      let tenures = 0
      const contend = async (owner: string): Promise<void> => {
        const clock = new OwnClock((random() - 0.5) * 10_000)
        const lock = new LeasedLock(open(owner), clock)
        for (let step = 0; step < 8; step++) {
          const tenure = await lock.hold()
          if (tenure !== undefined && !held.includes(tenure)) {
            held.push(tenure)
            tenures++
          }
          most = Math.max(most, held.filter(({ holds }) => holds).length)
          // Sometimes for longer than the lease.
          await new Promise((resolve) => setTimeout(resolve, random() ** 3 * LEASE_MS * 1.5))
          most = Math.max(most, held.filter(({ holds }) => holds).length)
        }
        if (random() < 0.5) await lock.release()
      }
      await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map(contend))
      t.equal(most, 1)
      t.ok(tenures > 1, `${tenures} tenures`)
    })

    t.test('what was asked before the lock was forgotten counts no more', async (t) => {
      const open = await openKeeper(t)
      const lock = new LeasedLock(open('a'))
      const asked = lock.hold()
      lock.forget()
      t.equal(await asked, undefined)
      let tenure = await lock.hold()
      await eventually('it is elected', async () => (tenure ??= await lock.hold()) !== undefined)
      lock.forget()
      t.equal(tenure?.holds, false)
      await lock.release()
    })
  })
}

t.test(
  'tokens grow each time the lock changes hands, and go to the store where it can check',
  async (t) => {
    for (const openKeeper of Object.values(KEEPERS)) {
      const open = await openKeeper(t, LONG_MS)
      let last = 0
      for (const owner of ['a', 'b', 'a']) {
        const keeper = open(owner)
        const token = await keeper.claim(null)
        if (token === null) throw new Error('nobody has it')
        t.ok(token > last)
        last = token
        await keeper.resign(token)
      }
      const lock = new LeasedLock(open('c'))
      const tenure = await lock.hold()
      if (open('d').isFencing) t.ok((tenure?.fence ?? 0) > last)
      else t.equal(tenure?.fence, null)
      await lock.release()
    }
  },
)

t.test('a file says to people who has the lock; only the newest stays', async (t) => {
  const directory = join(await tempRoot(t), 'maintenance.lock')
  const open = (owner: string) => new FileLock({ directory, owner, leaseMs: LEASE_MS })
  t.equal(await open('a').claim(null), 1)
  await age(join(directory, '1'))
  t.equal(await open('b').claim(null), 2)
  t.same(await readdir(directory), ['2'])
  t.match(JSON.parse(await readFile(join(directory, '2'), 'utf8')), {
    owner: 'b',
    pid: process.pid,
    token: 2,
    renewedAt: /^\d{4}-/,
  })
  t.equal(await open('b').claim(2), 2)
  await open('b').resign(2)
  t.same(await readdir(directory), ['2.released'])
})

t.test('a file whose owner is late is renewed by nobody', async (t) => {
  const directory = join(await tempRoot(t), 'maintenance.lock')
  const [a, b] = ['a', 'b'].map((owner) => new FileLock({ directory, owner, leaseMs: LEASE_MS }))
  t.equal(await a?.claim(null), 1)
  await age(join(directory, '1'))
  t.equal(await b?.claim(null), 2)
  t.equal(await a?.claim(1), null, 'its file is gone')
  await writeFile(join(directory, '1'), '')
  t.equal(await a?.claim(1), null, 'and if it were there, there is a newer one')
  t.equal(await b?.claim(2), 2)
})

t.test('one that looked long ago takes no token that was given before', async (t) => {
  for (const newer of ['3', '2.released']) {
    const directory = join(await tempRoot(t), 'maintenance.lock')
    await mkdir(directory)
    await writeFile(join(directory, '1'), '')
    await age(join(directory, '1'))
    // It has seen that 1 is the newest; before it takes 2, others have been there and gone.
    const fileClock = {
      nowMs: async () => {
        await writeFile(join(directory, newer), '')
        return Date.now()
      },
    }
    const late = new FileLock({ directory, owner: 'late', leaseMs: LEASE_MS, fileClock })
    t.equal(await late.claim(null), null)
    t.same((await readdir(directory)).toSorted(), ['1', newer])
  }
})

t.test('without a lock everybody maintains', async (t) => {
  const lock = new NoLock()
  const tenure = await lock.hold()
  t.match(tenure, { fence: null, holds: true })
  lock.forget()
  await lock.release()
  t.equal(await tenure?.renew(), true)
})

async function age(path: string): Promise<void> {
  const then = new Date(Date.now() - 2 * LEASE_MS)
  await utimes(path, then, then)
}

/** Numbers from 0 to 1, the same ones each time (mulberry32). */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
