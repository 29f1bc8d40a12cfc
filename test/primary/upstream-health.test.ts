// When a replica that starts is ready, and what health tells of its upstreams, by a clock that the test moves.
import t from 'tap'

import { UpstreamHealth } from '../../src/primary/upstream-health.ts'
import type { ServerVitals } from '../../src/shared/upstream-vitals.ts'
import { UpstreamVitals } from '../../src/shared/upstream-vitals.ts'
import { load } from '../shared/config-loading.ts'

const CONFIG = load(`
core: {max_start_wait_seconds: 60}
servers:
  - {id: a, mount_path: /a, upstream: {url: "http://user:hidden@a.internal/mcp"}}
  - {id: b, mount_path: /b, upstream: {url: "http://b.internal/mcp"}, upstream_ping: {failure_threshold: 5}}
  - {id: c, mount_path: /c, upstream: {url: "http://c.internal/mcp"}, upstream_ping: {enabled: false}}
`)

function start() {
  const vitals = new UpstreamVitals({ servers: 3, workers: 2 })
  const servers: readonly ServerVitals[] = [0, 1, 2].map((index) => vitals.server(index))
  for (const server of servers) server.isProbed = true
  const clock = { nowMs: 1_000 }
  const health = new UpstreamHealth(CONFIG, vitals, () => clock.nowMs)
  return { servers, clock, health }
}

t.test('a replica is ready as soon as all upstreams have answered', (test) => {
  const { servers, health } = start()
  for (const server of servers) {
    test.equal(health.isReady, false)
    server.noteAnswer()
  }
  test.equal(health.isReady, true)
  test.match(health.describeStart(), { waited_seconds: 0, not_ready_servers: [] })
  test.end()
})

t.test('those that have answered wait half a second for the others', (test) => {
  const { servers, clock, health } = start()
  servers[1]?.noteAnswer()
  clock.nowMs += 499
  test.equal(health.isReady, false)
  clock.nowMs += 1
  test.equal(health.isReady, true)
  clock.nowMs += 100_000
  test.match(health.describeStart(), {
    ready_within_wait_budget: true,
    waited_seconds: 0.5,
    not_ready_servers: ['a', 'c'],
  })
  test.end()
})

t.test('when none answers, the wait has an end, and it says so', (test) => {
  const { clock, health } = start()
  clock.nowMs += 59_999
  test.equal(health.isReady, false)
  test.match(health.describeStart(), { ready_within_wait_budget: false, waited_seconds: 59.999 })
  clock.nowMs += 1
  test.equal(health.isReady, true)
  test.match(health.describeStart(), { ready_within_wait_budget: false, waited_seconds: 60 })
  test.end()
})

t.test('an upstream that can not be asked is not waited for', (test) => {
  const { servers, health } = start()
  for (const server of servers) server.isProbed = false
  test.equal(health.isReady, true)
  test.end()
})

t.test('a breaker that opens after the start does not take readiness back', (test) => {
  const { servers, health } = start()
  for (const server of servers) server.noteAnswer()
  test.equal(health.isReady, true)
  test.equal(health.isDegraded, false)
  servers[0]?.change('closed', 'open')
  test.equal(health.isReady, true)
  test.equal(health.isDegraded, true)
  test.end()
})

t.test('the report has what dashboards know, and details for those who are known', (test) => {
  const { servers, health } = start()
  const [a] = servers
  a?.notePing({ latencyMs: 0.4 })
  a?.notePing({ failure: 'server_error' })
  a?.addFailure()
  a?.change('closed', 'open')
  a?.setInFlight(0, 2)
  a?.setInFlight(1, 3)
  const trusted = health.describeServers(true)
  test.match(trusted, [
    {
      server_id: 'a',
      mount_path: '/a',
      upstream_url: /a\.internal/,
      status: 'degraded',
      detail: 'upstream_unhealthy',
      in_flight_count: 5,
      breaker: {
        state: 'open',
        consecutive_failures: 1,
        failure_threshold: 3,
        open_cooldown_seconds: 30,
        half_open_probe_allowance: 2,
        half_open_probe_count: 0,
        half_open_success_count: 0,
        last_transition_at: /Z$/,
      },
      ping: {
        interval_seconds: 15,
        timeout_seconds: 5,
        last_latency_ms: 0,
        last_error: 'server_error',
        last_success_at: /Z$/,
        last_failure_at: /Z$/,
      },
    },
    { server_id: 'b', status: 'ok', breaker: { state: 'closed', failure_threshold: 5 } },
    { server_id: 'c', status: 'ok', detail: 'upstream_ping_disabled' },
  ])
  test.notMatch(JSON.stringify(trusted), /hidden/, 'nobody is told passwords')
  const open = health.describeServers(false)
  test.notMatch(JSON.stringify(open), /internal|last_error|in_flight/)
  test.match(open, [{ breaker: { state: 'open' }, ping: { last_failure_at: /Z$/ } }, {}, {}])
  test.end()
})
