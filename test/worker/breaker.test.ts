// The breaker by itself: its arrows, and that the workers of a replica share one.
import t from 'tap'
import type { Test } from 'tap'

import { UpstreamVitals } from '../../src/shared/upstream-vitals.ts'
import { Breaker } from '../../src/worker/upstream/breaker.ts'
import { eventually } from '../support/eventually.ts'

const POLICY = { failureThreshold: 3, openCooldownSeconds: 3_600, halfOpenProbeAllowance: 2 }

/** The breakers of as many workers over the same memory, and what they tell. `ask`: what has one of them ask the upstream itself. */
function breakers(
  count: number,
  policy: Partial<typeof POLICY> = {},
  ask?: (breaker: Breaker) => Promise<void>,
) {
  const numbers = { servers: 2, workers: count }
  const { memory } = new UpstreamVitals(numbers)
  const told: string[] = []
  const made = Array.from({ length: count }, (_, worker) => {
    // As another thread does: its own object over the same memory.
    const vitals = new UpstreamVitals(numbers, memory).server(1)
    const breaker: Breaker = new Breaker({
      vitals,
      worker,
      policy: { ...POLICY, ...policy },
      ask: ask && (() => ask(breaker)),
      events: {
        onTransition: (from, to) => told.push(`${from} > ${to}`),
        onRefused: (reason) => told.push(reason),
        onPing: ({ failure, isCounted, stateBefore }) =>
          told.push(`ping ${failure ?? 'ok'} ${isCounted ? '' : 'un'}counted ${stateBefore}`),
      },
    })
    return breaker
  })
  return { made, told, memory, numbers }
}

/** One that is open and whose cooldown is over. */
function halfOpen(count: number, ask?: (breaker: Breaker) => Promise<void>) {
  const rig = breakers(count, { openCooldownSeconds: 0 }, ask)
  const [first] = rig.made
  for (let n = 0; n < 3; n++) first?.failed('unreachable', false, { isCertain: true })
  return rig
}

/** Asks that wait for the test to say how they went. */
function asking() {
  const asked: { readonly breaker: Breaker; end: (how: 'answers' | 'fails') => Promise<void> }[] =
    []
  const ask = (breaker: Breaker): Promise<void> =>
    new Promise((resolve) => {
      asked.push({
        breaker,
        end: async (how) => {
          if (how === 'answers') breaker.pingAnswered(1, false)
          else breaker.pingFailed('server_error', 1, true)
          resolve()
          // What follows the end of it is done by then.
          await new Promise((next) => setImmediate(next))
        },
      })
    })
  return { asked, ask }
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index]
  if (item === undefined) throw new RangeError(`no item ${index}`)
  return item
}

t.test('whoever hears that it opened hears what the last failure said', (test) => {
  const reasons: (string | undefined)[] = []
  const vitals = new UpstreamVitals({ servers: 1, workers: 1 }).server(0)
  const breaker = new Breaker({
    vitals,
    worker: 0,
    policy: { ...POLICY, failureThreshold: 2 },
    events: { onTransition: (_from, _to, reason) => reasons.push(reason) },
  })
  breaker.failed('unreachable', false, { reason: 'ECONNREFUSED' })
  breaker.pingFailed('unreachable', 1, true, 'ENOTFOUND')
  test.same(reasons, ['ENOTFOUND'])
  test.end()
})

t.test('failures that different workers see are counted together', (test) => {
  const { made, told } = breakers(3)
  test.equal(at(made, 0).admit(), 'pass')
  at(made, 0).failed('unreachable', false)
  at(made, 1).failed('timeout', false)
  test.equal(at(made, 2).admit(), 'pass')
  at(made, 2).failed('server_error', false)
  for (const breaker of made) {
    const refused = breaker.admit()
    test.ok(typeof refused === 'object' && refused.retryAfterSeconds <= 3_600)
    test.equal(breaker.present(), 'open')
  }
  test.same(told, ['closed > open', 'breaker_open', 'breaker_open', 'breaker_open'])
  test.end()
})

t.test(
  'what requests say is not believed of an upstream that answers when it is asked',
  async (test) => {
    const { asked, ask } = asking()
    const { made, told } = breakers(2, {}, ask)
    for (const round of [1, 2]) {
      at(made, 0).failed('server_error', false)
      at(made, 1).failed('unreachable', false)
      test.equal(asked.length, round - 1, 'not before there are enough')
      at(made, 1).failed('timeout', false)
      test.equal(asked.length, round)
      test.equal(at(made, 0).admit(), 'pass', 'requests go on meanwhile')
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await at(asked, round - 1).end('answers')
      test.match(at(made, 0).vitals.report(), { state: 'closed', failures: 0 })
    }
    test.same(told, ['ping ok counted closed', 'ping ok counted closed'])
  },
)

t.test('it opens when the upstream fails that is asked, however it fails', async (test) => {
  const { asked, ask } = asking()
  const { made, told } = breakers(1, {}, ask)
  const breaker = at(made, 0)
  for (let n = 0; n < 3; n++) breaker.failed('server_error', false)
  test.equal(breaker.present(), 'closed')
  await at(asked, 0).end('fails')
  test.equal(breaker.present(), 'open')
  test.same(told, ['closed > open', 'ping server_error counted closed'])
})

t.test(
  'of all workers one asks at a time, and one that dies is followed by another',
  async (test) => {
    const { asked, ask } = asking()
    const { made } = breakers(3, {}, ask)
    for (const breaker of made) for (let n = 0; n < 4; n++) breaker.failed('timeout', false)
    test.same(
      asked.map(({ breaker }) => breaker),
      [made[0]],
    )
    at(made, 1).vitals.resetWorker(1)
    at(made, 1).failed('timeout', false)
    test.equal(asked.length, 1, 'it is not this one that asked')
    at(made, 1).vitals.resetWorker(0)
    at(made, 2).failed('timeout', false)
    test.equal(at(asked, 1).breaker, made[2])
    await at(asked, 1).end('fails')
    test.equal(at(made, 0).present(), 'open')
  },
)

t.test('an answer while it is asked counts, however that ends', async (test) => {
  const { asked, ask } = asking()
  const { made } = breakers(2, {}, ask)
  for (let n = 0; n < 3; n++) at(made, 0).failed('server_error', false)
  at(made, 1).answered()
  await at(asked, 0).end('fails')
  test.match(at(made, 0).vitals.report(), { state: 'closed', failures: 1 })
})

t.test('where no connection can be made there is nothing to ask', (test) => {
  const { asked, ask } = asking()
  const { made } = breakers(1, {}, ask)
  at(made, 0).failed('server_error', false)
  at(made, 0).failed('server_error', false)
  at(made, 0).failed('unreachable', false, { isCertain: true })
  test.equal(at(made, 0).present(), 'open')
  test.equal(asked.length, 0)
  test.end()
})

t.test('half-open, a failed trial is not believed either', async (test) => {
  const { asked, ask } = asking()
  const { made } = halfOpen(1, ask)
  const breaker = at(made, 0)
  test.equal(breaker.admit(), 'trial')
  breaker.failed('server_error', true)
  breaker.endTrial()
  test.equal(breaker.present(), 'half_open')
  await at(asked, 0).end('answers')
  test.match(breaker.vitals.report(), { state: 'half_open', successes: 1 })
  test.equal(breaker.admit(), 'trial')
  breaker.failed('server_error', true)
  await at(asked, 1).end('fails')
  test.equal(breaker.vitals.state, 'open')
})

t.test('what is asked late changes nothing of what was decided meanwhile', async (test) => {
  const { asked, ask } = asking()
  const { made } = breakers(1, {}, ask)
  const breaker = at(made, 0)
  for (let n = 0; n < 3; n++) breaker.failed('server_error', false)
  breaker.failed('unreachable', false, { isCertain: true })
  test.equal(breaker.present(), 'open')
  await at(asked, 0).end('answers')
  test.equal(breaker.present(), 'open', 'the cooldown stands')
})

t.test('a success of any worker starts the count over', (test) => {
  const { made } = breakers(2)
  for (let n = 0; n < 5; n++) {
    at(made, 0).failed('unreachable', false)
    at(made, 0).failed('unreachable', false)
    at(made, 1).answered()
  }
  test.equal(at(made, 0).present(), 'closed')
  at(made, 0).failed('unreachable', false)
  at(made, 0).failed('unreachable', false)
  at(made, 1).lives()
  at(made, 0).failed('unreachable', false)
  test.equal(at(made, 0).present(), 'closed', 'more of an answer is a success, too')
  test.end()
})

t.test('what is answered while it is open closes nothing', (test) => {
  const { made } = breakers(1)
  const [breaker] = made
  for (let n = 0; n < 3; n++) breaker?.failed('unreachable', false)
  for (let n = 0; n < 5; n++) {
    breaker?.answered()
    breaker?.lives()
  }
  test.equal(breaker?.present(), 'open')
  test.end()
})

t.test('half-open, as many trials pass as are allowed over all workers', (test) => {
  const { made, told } = halfOpen(3)
  test.equal(at(made, 0).admit(), 'trial')
  test.equal(at(made, 1).admit(), 'trial')
  test.same(at(made, 2).admit(), { retryAfterSeconds: 1 })
  at(made, 0).endTrial()
  test.equal(at(made, 2).admit(), 'trial')
  test.same(told, ['closed > open', 'open > half_open', 'breaker_half_open'])
  test.end()
})

t.test('half-open, so many successes close it', (test) => {
  const { made, told } = halfOpen(2)
  test.equal(at(made, 0).admit(), 'trial')
  at(made, 0).answered()
  at(made, 0).endTrial()
  test.equal(at(made, 0).present(), 'half_open')
  for (let n = 0; n < 9; n++) at(made, 1).lives()
  test.equal(at(made, 0).present(), 'half_open', 'streams that were open before are no trials')
  at(made, 1).pingAnswered(1, false)
  test.equal(at(made, 0).present(), 'closed')
  test.equal(at(made, 1).admit(), 'pass')
  test.same(told.slice(2), ['half_open > closed', 'ping ok counted half_open'])
  test.end()
})

t.test('half-open, a failed trial or ping opens it again, and nothing else does', (test) => {
  for (const fail of [
    (breaker: Breaker) => breaker.failed('server_error', true),
    (breaker: Breaker) => breaker.pingFailed('unreachable', 1, true),
    (breaker: Breaker) => breaker.waitedInVain(0, breaker.signs, true),
  ]) {
    const { made, told } = halfOpen(1)
    const breaker = at(made, 0)
    test.equal(breaker.admit(), 'trial')
    breaker.failed('timeout', false)
    test.equal(breaker.vitals.state, 'half_open', 'what was sent before it opened')
    fail(breaker)
    test.equal(breaker.vitals.state, 'open')
    test.ok(told.includes('half_open > open'))
  }
  test.end()
})

t.test('a wait in vain says nothing when somebody else was answered meanwhile', (test) => {
  const { made } = breakers(2, { failureThreshold: 1 })
  const before = at(made, 0).signs
  at(made, 0).answered()
  at(made, 0).waitedInVain(0, before, false)
  test.equal(at(made, 0).present(), 'closed', 'by this worker')
  at(made, 1).pingAnswered(1, false)
  at(made, 0).waitedInVain(60_000, at(made, 0).signs, false)
  test.equal(at(made, 0).present(), 'closed', 'by another one')
  at(made, 0).waitedInVain(0, at(made, 0).signs, false)
  test.equal(at(made, 0).present(), 'open')
  test.end()
})

t.test('a ping that tells nothing is told, and changes nothing', (test) => {
  const { made, told } = breakers(1, { failureThreshold: 1 })
  const breaker = at(made, 0)
  breaker.pingFailed('timeout', 5, false)
  test.equal(breaker.present(), 'closed')
  test.match(breaker.vitals.report(), { failures: 0, pingFailureAtMs: null, lastFailure: null })
  test.same(told, ['ping timeout uncounted closed'])
  test.end()
})

t.test('an upstream that was still waited for is in service with its first answer', (test) => {
  const { made, told } = breakers(1, { failureThreshold: 1 })
  const breaker = at(made, 0)
  breaker.pingFailed('unreachable', 1, true)
  test.equal(breaker.present(), 'open')
  breaker.pingAnswered(1, true)
  test.equal(breaker.present(), 'closed')
  test.equal(told.at(-2), 'open > closed')
  test.end()
})

t.test('without a policy everything passes', (test) => {
  const { memory, numbers } = breakers(1)
  const vitals = new UpstreamVitals(numbers, memory).server(0)
  const breaker = new Breaker({ vitals, worker: 0, policy: null, events: {} })
  for (let n = 0; n < 99; n++) breaker.failed('unreachable', false)
  test.equal(breaker.admit(), 'pass')
  test.equal(vitals.state, 'closed')
  test.end()
})

t.test('what a worker had in hand when it died is given back', (test) => {
  const { made } = halfOpen(2)
  at(made, 0).inFlight = 7
  at(made, 1).inFlight = 1
  test.equal(at(made, 0).admit(), 'trial')
  test.equal(at(made, 0).admit(), 'trial')
  test.type(at(made, 1).admit(), 'object')
  at(made, 1).vitals.resetWorker(0)
  test.equal(at(made, 1).vitals.inFlight, 1)
  test.equal(at(made, 1).admit(), 'trial')
  test.end()
})

t.test('the cooldown ends by time', async (test: Test) => {
  const { made } = breakers(1, { openCooldownSeconds: 1 })
  const breaker = at(made, 0)
  for (let n = 0; n < 3; n++) breaker.failed('unreachable', false)
  test.same(breaker.admit(), { retryAfterSeconds: 1 })
  await eventually('a trial is let through', () => breaker.admit() === 'trial')
})

t.test('servers do not share theirs', (test) => {
  const { made, memory, numbers } = breakers(2)
  for (let n = 0; n < 3; n++) at(made, 0).failed('unreachable', false)
  const other = new UpstreamVitals(numbers, memory).server(0)
  test.equal(other.isClosed, true)
  test.match(other.report(), { failures: 0, lastFailure: null, changedAtMs: null })
  test.end()
})
