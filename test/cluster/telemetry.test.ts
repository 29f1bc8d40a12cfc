/** Metrics that take several replicas, a store that goes away, or an upstream whose tools change. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { shown } from '../support/shown-metrics.ts'
import { startHeartbeatUpstream } from '../support/upstreams/heartbeat-upstream.ts'
import { sendResult, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { stdioSection } from '../support/upstreams/stdio/stdio-section.ts'
import { WireSession } from '../support/wire.ts'

t.setTimeout(300_000)

function server(id: string, url: string, more: object = {}): object {
  return { id, mount_path: `/mcp/${id}`, upstream: { url }, ...more }
}

t.test('takeovers, leases, drift and the loss of the store are counted', async (t) => {
  const browser = await startHeartbeatUpstream({
    pingEveryMs: 200,
    pingTimeoutMs: 300,
    forgives: true,
  })
  const tools = await startScriptedUpstream({ capabilities: { tools: {} } })
  t.teardown(() => Promise.all([browser.stop(), tools.stop()]))
  let listed: unknown = [{ name: 'add', description: 'Adds.' }]
  tools.scripts.set('tools/list', (request) => sendResult(request, { tools: listed }))
  const cluster = await startCluster(t, {
    replicas: 2,
    core: { workers: 1 },
    servers: () => [
      server('browser', browser.url),
      server('keeps', tools.url, {
        tool_definition_pinning: { mode: 'block', block_error_session_action: 'keep' },
      }),
      server('ends', tools.url, { tool_definition_pinning: { mode: 'block' } }),
      server('warns', tools.url, { tool_definition_pinning: { mode: 'warn' } }),
    ],
    sections: {
      telemetry: { periodic_flush_seconds: 1, prometheus: { enabled: true } },
    },
  })
  const [a, b] = cluster.replicas
  if (a === undefined || b === undefined) throw new Error('two replicas')
  for (const { url } of [a, b])
    await eventually('both know of each other', async () =>
      (await (await fetch(`${url}/healthz`)).text()).includes('"replicas_count":2'),
    )

  for (const id of ['keeps', 'ends', 'warns']) {
    listed = [{ name: 'add', description: 'Adds.' }]
    const session = await WireSession.open(`${b.url}/mcp/${id}`)
    await session.request('tools/list')
    listed = [{ name: 'add', description: 'Adds, and more.' }]
    await session.request('tools/list')
  }
  for (const outcome of ['block_error', 'block_error_invalidate_session', 'warn'])
    await eventually(
      `drift with the outcome ${outcome}`,
      async () =>
        (await shown(b.url, 'adapter_tool_definition_drift_total', `outcome="${outcome}"`)) === 1,
    )
  await eventually(
    'the session that was ended',
    async () =>
      (await shown(
        b.url,
        'adapter_sessions_lifecycle_total',
        'event="tool_definition_invalidated"',
        'server_id="ends"',
      )) === 1,
  )

  const session = await WireSession.open(`${a.url}/mcp/browser`)
  await session.get()
  await eventually(
    'the lease is held by the first',
    async () => (await shown(a.url, 'adapter_leases_held', 'kind="stream"')) === 1,
  )
  await eventually('one of them is the maintainer', async () => {
    const kind = 'kind="maintainer"'
    const [one, other] = await Promise.all([
      shown(a.url, 'adapter_leases_held', kind),
      shown(b.url, 'adapter_leases_held', kind),
    ])
    return one + other === 1
  })
  await a.kill()
  await eventually(
    'the other has taken it over',
    async () =>
      (await shown(
        b.url,
        'adapter_stream_takeover_duration_seconds_count',
        'server_id="browser"',
      )) === 1 && (await shown(b.url, 'adapter_leases_held', 'kind="stream"')) === 1,
  )

  const transitions = (action: string): Promise<number> =>
    shown(
      b.url,
      'adapter_persistence_policy_transitions_total',
      `action="${action}"`,
      'policy="fail_closed"',
      'configured_backend="redis"',
    )
  cluster.redis.pause()
  await eventually('the loss is counted', async () => (await transitions('fail_closed')) === 1)
  await eventually('what was refused for it', async () => {
    // A connection that was kept since before may be closed as it is used: then nothing was asked.
    await WireSession.open(`${b.url}/mcp/warns`).catch(() => undefined)
    const reason = 'reason="persistence_fail_closed"'
    return (await shown(b.url, 'adapter_request_rejections_total', reason)) > 0
  })
  cluster.redis.resume()
  await eventually('that it is back', async () => (await transitions('recovered')) === 1)
  t.pass('all were counted')
})

t.test('what crosses replicas is counted by who asks and by who holds', async (t) => {
  const workspace = await mkdtemp(join(tmpdir(), 'adapter-counted-'))
  t.teardown(() => rm(workspace, { recursive: true, force: true, maxRetries: 5 }))
  const cluster = await startCluster(t, {
    replicas: 2,
    core: { workers: 1 },
    servers: () => [stdioSection('files', { workspace })],
    sections: { telemetry: { periodic_flush_seconds: 1, prometheus: { enabled: true } } },
  })
  const [holder, other] = cluster.replicas
  if (holder === undefined || other === undefined) throw new Error('two replicas')
  const session = await WireSession.open(`${holder.url}/mcp/files`)
  const elsewhere = new WireSession(`${other.url}/mcp/files`, session.id, session.version)
  for (let n = 0; n < 3; n++) t.equal((await elsewhere.call('process')).status, 200)
  for (const [replica, direction] of [
    [other, 'out'],
    [holder, 'in'],
  ] as const) {
    const labels = [`direction="${direction}"`, 'result="success"'] as const
    await eventually(
      `three are counted ${direction}`,
      async () => (await shown(replica.url, 'adapter_replica_hop_requests_total', ...labels)) === 3,
    )
    t.equal(
      await shown(replica.url, 'adapter_replica_hop_duration_seconds_count', labels[0]),
      3,
      'with their times',
    )
  }
  t.equal(await shown(holder.url, 'adapter_replica_hop_requests_total', 'direction="out"'), 0)

  await holder.kill()
  t.equal((await elsewhere.call('process')).status, 200, 'the session goes on')
  await eventually(
    'the loss is counted',
    async () =>
      (await shown(
        other.url,
        'adapter_replica_hop_requests_total',
        'direction="out"',
        'result="holder_lost"',
      )) > 0,
  )
})
