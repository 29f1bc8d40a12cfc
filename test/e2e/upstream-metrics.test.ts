// What metrics tell of an upstream besides the calls of clients: pings, the breaker, listings that were shown again.
import t from 'tap'

import { fails, startBreakerRig, untilState } from '../support/breaker-rig.ts'
import { eventually } from '../support/eventually.ts'
import { shown } from '../support/shown-metrics.ts'
import { WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const sections = { telemetry: { periodic_flush_seconds: 1, prometheus: { enabled: true } } }
const SERVER = 'server_id="one"'

t.test('pings are counted with their results, and the breaker shows its state', async (test) => {
  const { upstream, replica } = await startBreakerRig(
    test,
    { interval_seconds: 1, open_cooldown_seconds: 1 },
    {},
    sections,
  )
  const pings = (result: string): Promise<number> =>
    shown(replica.url, 'adapter_upstream_ping_total', SERVER, `result="${result}"`)
  const times = (): Promise<number> =>
    shown(replica.url, 'adapter_upstream_ping_latency_seconds_count', SERVER)
  const state = (): Promise<number> =>
    shown(replica.url, 'adapter_upstream_circuit_breaker_state', SERVER)
  const notReady = (): Promise<number> =>
    shown(replica.url, 'adapter_adapter_wiring_not_ready_servers')
  await eventually('a success', async () => (await pings('success')) > 0)
  test.ok((await times()) > 0)
  test.equal(await state(), 0, 'it is closed')
  test.equal(await notReady(), 0)

  upstream.scripts.set('probe', fails)
  await untilState(replica, 'open')
  await eventually('it shows as open', async () => (await state()) === 2)
  await eventually('an error', async () => (await pings('error')) >= 3)
  await eventually('the server is not ready', async () => (await notReady()) === 1)

  upstream.scripts.set('probe', () => undefined)
  await eventually('a time-out', async () => (await pings('timeout')) > 0)

  upstream.scripts.delete('probe')
  await untilState(replica, 'closed')
  await eventually('it shows as closed', async () => (await state()) === 0)
  await eventually(
    'how it was when a ping brought it back',
    async () =>
      (await shown(
        replica.url,
        'adapter_upstream_ping_total',
        'result="success"',
        'state_before_probe="half_open"',
      )) > 0,
  )
})

t.test('a listing that is shown again is a hit', async (test) => {
  const { replica, url } = await startBreakerRig(
    test,
    {},
    { tool_definition_pinning: { mode: 'off' } },
    sections,
  )
  const session = await WireSession.open(url)
  for (let n = 0; n < 4; n++) test.equal((await session.request('tools/list')).status, 200)
  const count = (result: string): Promise<number> =>
    shown(
      replica.url,
      'adapter_cache_requests_total',
      'cache="upstream_metadata"',
      `result="${result}"`,
    )
  await eventually('three were shown again', async () => (await count('hit')) === 3)
  test.equal(await count('miss'), 1)
})
