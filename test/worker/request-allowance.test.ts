/** Requests that principals may still make. Each `RequestAllowance` acts as one worker's. */
import t from 'tap'

import { StoreUnavailableError } from '../../src/shared/errors.ts'
import { openLocalStore } from '../../src/shared/state/open.ts'
import { RequestAllowance } from '../../src/worker/session/request-allowance.ts'
import { policyWith } from '../contract/store-fixtures.ts'

function stage(perMinute: number, burst: number) {
  let nowMs = 1_000_000
  const store = openLocalStore(
    {
      type: 'memory',
      path: '',
      walEnabled: false,
      snapshotPath: null,
      snapshotIntervalMs: 60_000,
      refreshOnStartup: false,
      policy: policyWith({ requestRate: { perMinute, burst } }),
    },
    { clock: () => nowMs },
  )
  t.teardown(() => store.close())
  const asked: number[] = []
  const counted = {
    takeRequests: (principal: string, count: number) => {
      asked.push(count)
      return store.takeRequests(principal, count)
    },
  }
  return {
    asked,
    worker: () => new RequestAllowance(counted, burst, () => nowMs),
    advance: (ms: number) => {
      nowMs += ms
    },
  }
}

/** How many of `count` requests one after the other are let through. */
async function through(worker: RequestAllowance, count: number, name = 'a'): Promise<number> {
  let passed = 0
  for (let i = 0; i < count; i++) if ((await worker.take(name)) === 0) passed++
  return passed
}

t.test('exactly the burst is let through at once, by however many workers', async (t) => {
  const { worker, advance } = stage(60, 100)
  const workers = [worker(), worker(), worker()]
  const passed = await Promise.all(workers.map((one) => through(one, 80)))
  t.equal(
    passed.reduce((sum, one) => sum + one, 0),
    100,
  )
  t.equal(await workers[0]?.take('a'), 1_000, 'when to come again')
  t.equal(await workers[0]?.take('b'), 0, 'others have their own')
  advance(1_000)
  t.equal(await through(workers[1] ?? worker(), 5), 1)
})

t.test(
  'a busy principal asks the store seldom, one that is not takes no more than it uses',
  async (t) => {
    const { worker, asked, advance } = stage(60_000, 1_000)
    const busy = worker()
    t.equal(await through(busy, 600), 600)
    t.same(asked.slice(0, 8), [1, 2, 4, 8, 16, 32, 64, 100], 'more each time, up to a tenth')
    t.ok(asked.length <= 12, `${asked.length} questions`)
    advance(60_000)
    asked.length = 0
    for (let i = 0; i < 5; i++) {
      t.equal(await busy.take('a'), 0)
      advance(5_000)
    }
    t.same(asked, [1, 1, 1, 1, 1])
  },
)

t.test(
  'several at once are taken all or not at all, and count as each of them alone',
  async (t) => {
    const { worker, advance } = stage(60, 30)
    const [one, other] = [worker(), worker()]
    t.equal(await one.take('a', 20), 0)
    t.ok((await other.take('a', 20)) >= 1_000, 'another worker has ten')
    t.equal(await through(other, 30), 10, 'which it can still use')
    t.ok((await one.take('a', 2)) >= 1_000)
    advance(20_000)
    t.equal(await one.take('a', 5), 0)
    t.ok((await other.take('a', 16)) >= 1_000, 'fifteen came back since, which are its now')
    advance(1_001)
    t.equal(await other.take('a', 15), 1_000, 'for a second only')
    t.equal(await other.take('b', 30), 0, 'others have their own')
  },
)

t.test(
  'requests, alone and several at once, that come together get no more than there is',
  async (t) => {
    const { worker } = stage(1, 30)
    const one = worker()
    const counts = Array.from({ length: 40 }, (_, index) => 1 + (index % 3))
    const answers = await Promise.all(counts.map((count) => one.take('a', count)))
    const taken = counts.reduce((sum, count, index) => sum + (answers[index] === 0 ? count : 0), 0)
    t.ok(taken <= 30 && taken >= 27, `${taken} of 30`)
  },
)

t.test('a batch that could never pass is told so', async (t) => {
  const { worker, asked } = stage(60, 30)
  t.equal(await worker().takeRest('a', 30), 0)
  asked.length = 0
  await t.rejects(worker().takeRest('b', 31), { code: 'ADAPTER_INVALID_REQUEST' })
  t.strictSame(asked, [], 'and costs nothing')
})

t.test('what was granted counts for a second only', async (t) => {
  const { worker, advance } = stage(1, 100)
  const one = worker()
  await through(one, 4)
  t.ok(one.tryTake('a'), 'of a grant of four')
  advance(1_001)
  t.notOk(one.tryTake('a'))
  t.notOk(one.tryTake('nobody'))
})

t.test('requests that come together ask together, and get what there is', async (t) => {
  const { worker, asked } = stage(1, 30)
  const one = worker()
  const answers = await Promise.all(Array.from({ length: 50 }, () => one.take('a')))
  t.equal(answers.filter((answer) => answer === 0).length, 30)
  t.ok(answers.every((answer) => answer === 0 || answer > 59_000))
  t.ok(asked.length <= 4, `${asked.length} questions`)
})

t.test('a store that fails lets nobody in, and nobody is stuck behind it', async (t) => {
  let fails = true
  const one = new RequestAllowance(
    {
      takeRequests: async (_, count) => {
        if (fails) throw new StoreUnavailableError('down')
        return { granted: count, retryAfterMs: 0 }
      },
    },
    10,
  )
  const outcomes = await Promise.allSettled([one.take('a'), one.take('a'), one.take('a')])
  t.ok(outcomes.every(({ status }) => status === 'rejected'))
  fails = false
  t.equal(await one.take('a'), 0)
})

t.test('a thousand principals and more are no burden', async (t) => {
  const { worker, advance } = stage(60, 10)
  const one = worker()
  for (let i = 0; i < 2_500; i++) {
    advance(10)
    t.equal(await one.take(`p${i}`), 0)
  }
})
