/** When a maintainer runs, what it does at the beginning of its time, and how what is under way is kept alive. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import t, { type Test } from 'tap'

import { StoreUnavailableError } from '../../src/shared/errors.ts'
import type { StateStore } from '../../src/shared/state/store.ts'
import { KeepAlive, type KeepAliveOptions } from '../../src/worker/maintenance/keep-alive.ts'
import { Maintainer, type MaintainerOptions } from '../../src/worker/maintenance/maintainer.ts'
import { LeasedLock, NoLock } from '../../src/worker/maintenance/maintenance-lock.ts'
import { StoreLock } from '../../src/worker/maintenance/store-lock.ts'
import { eventually } from '../support/eventually.ts'
import { sessionRecord } from './files-fixture.ts'
import { startRig, type Rig } from './maintenance-fixture.ts'

const RENEW_MS = 10

/** A maintainer of this rig that runs as often as it can. */
function maintainerOf(t: Test, rig: Rig, options: Partial<MaintainerOptions> = {}): Maintainer {
  const maintainer = new Maintainer({
    lock: new NoLock(),
    sweeper: rig.sweeper(),
    store: rig.store,
    intervalMs: RENEW_MS,
    renewMs: RENEW_MS,
    repairEvery: null,
    ...options,
  })
  t.teardown(() => maintainer.stop())
  return maintainer
}

function storeLock(rig: Rig, holder: string): LeasedLock {
  return new LeasedLock(new StoreLock(rig.store, holder, 60_000))
}

/** A store of which some methods are others. */
function storeWith(store: StateStore, changes: Partial<StateStore>): StateStore {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(changes, name) ?? Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

t.test('runs go on after a failure, and end with stop', async (t) => {
  const rig = await startRig(t)
  let isDown = true
  let runs = 0
  const errors: unknown[] = []
  const store = storeWith(rig.store, {
    sweep(...args) {
      runs++
      return isDown ? Promise.reject(new StoreUnavailableError('down')) : rig.store.sweep(...args)
    },
  })
  const sweeper = rig.sweeper({ store })
  const maintainer = maintainerOf(t, rig, { sweeper, onError: (error) => errors.push(error) })
  await maintainer.start()
  await maintainer.start()
  t.equal(runs, 0, 'the first run comes an interval later')
  await eventually('failed runs are reported', () => errors.length >= 2)
  t.equal(maintainer.lastReport, undefined)
  isDown = false
  await eventually('it recovers by itself', () => maintainer.lastReport !== undefined)
  await maintainer.stop()
  const before = runs
  await maintainer.start()
  await new Promise((resolve) => setTimeout(resolve, 5 * RENEW_MS))
  t.equal(runs, before, 'no run begins after stop')
})

t.test('a lock that can not be asked for is asked for again', async (t) => {
  const rig = await startRig(t)
  let failures = 3
  const store = storeWith(rig.store, {
    electMaintainer(...args) {
      if (failures-- > 0) return Promise.reject(new StoreUnavailableError('down'))
      return rig.store.electMaintainer(...args)
    },
  })
  const errors: unknown[] = []
  const elections: boolean[] = []
  const maintainer = maintainerOf(t, rig, {
    lock: new LeasedLock(new StoreLock(store, 'a', 60_000)),
    onError: (error) => errors.push(error),
    onElected: async (_tenure, isFirstAnswer) => void elections.push(isFirstAnswer),
  })
  await maintainer.start()
  await eventually('it runs', () => maintainer.lastReport !== undefined)
  t.equal(errors.length, 3)
  t.same(elections, [true], 'nobody else was the maintainer when it first could ask')
  t.equal(maintainer.isElected, true)
})

t.test(
  'one of two runs; the other takes over when it stops, and knows that it was not the first',
  async (t) => {
    const rig = await startRig(t)
    const elected: string[] = []
    const start = async (name: string): Promise<Maintainer> => {
      const maintainer = maintainerOf(t, rig, {
        lock: storeLock(rig, name),
        onElected: async (_tenure, isFirstAnswer) => void elected.push(`${name} ${isFirstAnswer}`),
      })
      await maintainer.start()
      return maintainer
    }
    const first = await start('first')
    t.same(elected, ['first true'], 'what is done then is done when start resolves')
    const second = await start('second')
    await eventually('the first runs', () => first.lastReport !== undefined)
    t.same([first.isElected, second.isElected], [true, false])
    t.equal(second.lastReport, undefined)
    await first.stop()
    await eventually('the second runs', () => second.lastReport !== undefined)
    t.same(elected, ['first true', 'second false'])
  },
)

t.test('who becomes the maintainer lets the others say first what they work for', async (t) => {
  const rig = await startRig(t)
  let nowMs = 0
  let isLost = false
  const lock = storeLock(rig, 'a')
  let rounds = 0
  const maintainer = maintainerOf(t, rig, {
    lock: {
      hold() {
        rounds++
        return isLost ? Promise.reject(new StoreUnavailableError('down')) : lock.hold()
      },
      forget: () => lock.forget(),
      release: () => lock.release(),
    },
    intervalMs: 60_000,
    clock: { monotonicMs: () => nowMs, wallMs: () => nowMs },
  })
  const pass = async (ms: number): Promise<void> => {
    nowMs += ms
    const before = rounds
    await eventually('it tries on', () => rounds >= before + 3)
  }
  await maintainer.start()
  await pass(59_000)
  // The store goes away for longer than anything under way is kept, and comes back.
  isLost = true
  await pass(600_000)
  lock.forget()
  isLost = false
  await pass(0)
  await pass(9_000)
  t.equal(maintainer.lastReport, undefined, 'what is under way elsewhere has not been renewed yet')
  await pass(2_000)
  await eventually('then it runs', () => maintainer.lastReport !== undefined)
})

t.test('nothing is run where runs are turned off, but there is a maintainer', async (t) => {
  const rig = await startRig(t)
  let asked = 0
  const lock = storeLock(rig, 'a')
  const counting = {
    hold: () => {
      asked++
      return lock.hold()
    },
    forget: () => lock.forget(),
    release: () => lock.release(),
  }
  const maintainer = maintainerOf(t, rig, { lock: counting, intervalMs: null })
  await maintainer.start()
  await eventually('it renews', () => asked >= 3)
  t.equal(maintainer.isElected, true)
  t.equal(maintainer.lastReport, undefined)
})

t.test('counters are put right in the first run and every so many after it', async (t) => {
  const rig = await startRig(t)
  const repairs: (number | null)[] = []
  const told: unknown[] = []
  let runs = 0
  const store = storeWith(rig.store, {
    repairCounters(fence) {
      repairs.push(fence)
      return Promise.resolve(
        repairs.length === 1 ? { sessions: 2, bytes: 30 } : { sessions: 0, bytes: 0 },
      )
    },
  })
  const maintainer = maintainerOf(t, rig, {
    store,
    lock: storeLock(rig, 'a'),
    repairEvery: 3,
    onReport: () => runs++,
    onRepaired: (repair) => told.push(repair),
  })
  await maintainer.start()
  await eventually('it runs', () => runs >= 6)
  await maintainer.stop()
  t.equal(repairs.length, Math.ceil(runs / 3))
  t.type(repairs[0], 'number', 'with the token')
  t.same(told, [{ sessions: 2, bytes: 30 }], 'only what was wrong is told')
})

t.test('a run whose time is over is cut short, and the next one is whole', async (t) => {
  const rig = await startRig(t)
  await rig.store.openSession(sessionRecord('srv'))
  const reports: boolean[] = []
  let usurp = true
  const store = storeWith(rig.store, {
    async sweep(...args) {
      if (usurp) {
        usurp = false
        await rig.store.resignMaintainer('a')
        await rig.store.electMaintainer('somebody else', 60_000)
        setTimeout(() => void rig.store.resignMaintainer('somebody else'), 50)
      }
      return rig.store.sweep(...args)
    },
  })
  const maintainer = maintainerOf(t, rig, {
    sweeper: rig.sweeper({ store }),
    lock: storeLock(rig, 'a'),
    onReport: ({ endedEarly }) => reports.push(endedEarly),
  })
  await maintainer.start()
  await eventually('it runs again', () => reports.length >= 2)
  t.same(reports.slice(0, 2), [true, false])
})

function keepAliveOf(t: Test, options: Partial<KeepAliveOptions>): KeepAlive {
  const keepAlive = new KeepAlive({
    store: { keepAlive: async () => {} },
    intervalMs: 5,
    busySessions: () => [],
    ...options,
  })
  t.teardown(() => keepAlive.stop())
  keepAlive.start()
  return keepAlive
}

t.test('what is worked for is noted once for each session, in bounded requests', async (t) => {
  const sessions = Array.from({ length: 300 }, () => sessionRecord('srv'))
  const [first] = sessions
  if (first === undefined) throw new Error('no session')
  const asked: (readonly { key: object; callLeases: readonly string[] }[])[] = []
  const keepAlive = keepAliveOf(t, {
    store: { keepAlive: async (batch) => void asked.push(batch) },
    busySessions: () => [
      ...sessions.map((key) => ({ key, callLeases: ['call'] })),
      { key: first, callLeases: ['other'] },
      { key: { ...first, serverId: 'another server' }, callLeases: [] },
    ],
  })
  await eventually('it is noted', () => asked.length >= 2)
  await keepAlive.stop()
  t.same(
    asked.slice(0, 2).map((batch) => batch.length),
    [256, 45],
  )
  t.strictSame(asked[0]?.[0], {
    key: { serverId: 'srv', sessionId: first.sessionId },
    callLeases: ['call', 'other'],
  })
})

t.test(
  'a store that does not answer is not asked again meanwhile, and a failure ends nothing',
  async (t) => {
    const session = { key: sessionRecord('srv'), callLeases: [] }
    let asked = 0
    let answer: ((error?: Error) => void) | undefined
    const errors: unknown[] = []
    const keepAlive = keepAliveOf(t, {
      store: {
        keepAlive: () => {
          asked++
          return new Promise((resolve, reject) => {
            answer = (error) => (error === undefined ? resolve() : reject(error))
          })
        },
      },
      busySessions: () => [session],
      onError: (error) => errors.push(error),
    })
    await eventually('it is asked', () => asked === 1)
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.equal(asked, 1)
    answer?.(new StoreUnavailableError('down'))
    await eventually('it is asked again', () => asked === 2)
    t.match(errors, [{ message: 'down' }])
    let isStopped = false
    const stopped = keepAlive.stop().then(() => (isStopped = true))
    await new Promise((resolve) => setTimeout(resolve, 20))
    t.equal(isStopped, false, 'stop waits for what is under way')
    answer?.()
    await stopped
  },
)

t.test('nothing is asked while nothing is worked for', async (t) => {
  let asked = 0
  let looked = 0
  keepAliveOf(t, {
    store: { keepAlive: async () => void asked++ },
    busySessions: () => {
      looked++
      return []
    },
  })
  await eventually('it looks', () => looked >= 3)
  t.equal(asked, 0)
})
