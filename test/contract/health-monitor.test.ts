/** What makes a store unavailable, and what does not. */
import t from 'tap'
import type { Test } from 'tap'

import { HealthMonitor } from '../../src/shared/state/redis/health-monitor.ts'
import { eventually } from '../support/eventually.ts'

interface Watched {
  readonly monitor: HealthMonitor
  /** Times of the probes so far, in milliseconds. */
  readonly probes: number[]
  readonly changes: boolean[]
  timeouts: number
  /** What the next probes say; undefined is success. */
  fail: (() => string | undefined) | undefined
}

function watch(
  t: Test,
  {
    isAvailable = true,
    intervalMs = 60_000,
    unavailableAfterMs = 0,
  }: { isAvailable?: boolean; intervalMs?: number; unavailableAfterMs?: number },
): Watched {
  const watched: Watched = {
    monitor: new HealthMonitor(
      {
        probe: async () => {
          watched.probes.push(performance.now())
          const reason = watched.fail?.()
          if (reason !== undefined) throw new Error(reason)
        },
        intervalMs,
        unavailableAfterMs,
        onChange: (available) => watched.changes.push(available),
        onTimeout: () => {
          watched.timeouts++
        },
      },
      isAvailable,
    ),
    probes: [],
    changes: [],
    timeouts: 0,
    fail: undefined,
  }
  t.teardown(() => watched.monitor.stop())
  return watched
}

t.test('three failures in a row make it unavailable, two successes available again', async (t) => {
  const watched = watch(t, {})
  watched.fail = () => 'refused'
  watched.monitor.start()
  await eventually('it fell', () => watched.changes.length === 1)
  t.equal(watched.probes.length, 3)
  t.notOk(watched.monitor.isAvailable)
  t.type(watched.monitor.health.lastFailureAtMs, 'number')
  t.equal(watched.timeouts, 0)
  watched.fail = undefined
  await eventually('it rose', () => watched.changes.length === 2)
  t.equal(watched.probes.length, 5)
  t.strictSame(watched.changes, [false, true])
  t.type(watched.monitor.health.latencyMs, 'number')
})

t.test('failures with successes between them are no outage', async (t) => {
  const watched = watch(t, { intervalMs: 50 })
  watched.fail = () => (watched.probes.length % 3 === 0 ? undefined : 'refused')
  watched.monitor.start()
  await eventually('it was probed often', () => watched.probes.length >= 9)
  t.strictSame(watched.changes, [])
})

t.test('failures must last, and time-outs are told one by one', async (t) => {
  const watched = watch(t, { unavailableAfterMs: 1_200 })
  watched.fail = () => 'Command timed out'
  watched.monitor.start()
  await eventually('it fell', () => watched.changes.length === 1)
  const [first = 0] = watched.probes
  t.ok((watched.probes.at(-1) ?? 0) - first >= 1_200, `${watched.probes.length} probes`)
  t.equal(watched.timeouts, watched.probes.length)
})

t.test(
  'a suspicion is looked into soon, however long the interval and however many there are',
  async (t) => {
    const watched = watch(t, {})
    watched.monitor.start()
    await eventually('it was probed', () => watched.probes.length === 1)
    for (let round = 0; round < 100; round++) watched.monitor.suspect()
    await eventually('it was probed again', () => watched.probes.length === 2, 2_000)
    const [first = 0, second = 0] = watched.probes
    t.ok(second - first >= 200, 'not more often than while something is wrong')
    t.strictSame(watched.changes, [])
  },
)

t.test(
  'one that begins as unavailable must prove that it is not; a stopped one says nothing',
  async (t) => {
    const watched = watch(t, { isAvailable: false })
    watched.monitor.start()
    await eventually('it rose', () => watched.changes.length === 1)
    t.equal(watched.probes.length, 2)
    watched.monitor.stop()
    watched.monitor.suspect()
    await new Promise((resolve) => setTimeout(resolve, 400)) // longer than until the next probe
    t.equal(watched.probes.length, 2)
  },
)
