/** All replicas are replaced one after the other while clients go on through HAProxy: nobody notices. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { ClusterLoad } from '../support/cluster-load.ts'
import { startCluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { fileServerSection, startFileServer } from '../support/upstreams/file-server.ts'

t.setTimeout(600_000)

t.test('no request fails while three replicas are restarted under load', async (t) => {
  const workspace = await mkdtemp(join(tmpdir(), 'adapter-rolling-'))
  const upstream = await startFileServer({ workspace })
  t.teardown(async () => {
    await upstream.stop()
    await rm(workspace, { recursive: true, force: true })
  })
  const cluster = await startCluster(t, {
    withProxy: true,
    // What several replicas have by themselves.
    core: { pre_drain_seconds: null },
    sections: { uploads: { ttl_seconds: 600 } },
    servers: () => [fileServerSection(upstream.url, workspace)],
  })
  const load = new ClusterLoad(cluster.url)
  await load.addClients(8)
  await load.addSdkClients(4)
  const opened = upstream.sessions()
  const done = (): number => Object.values(load.counts).reduce((sum, count) => sum + count, 0)
  await eventually('every kind of work is under way', () =>
    Object.values(load.counts).every((count) => count > 0),
  )
  for (const replica of cluster.replicas) {
    const before = done()
    await replica.restart()
    await eventually(
      'HAProxy sends clients to the new process',
      async () => (await cluster.proxy?.sendsTo(replica.index)) === true,
    )
    t.ok(done() - before > 50, `work went on during a restart: ${done() - before} rounds`)
    t.same(load.failures, [], 'and nothing failed')
  }
  await load.stop()
  t.same(load.failures, [], 'no request failed')
  t.same(load.interruptions, [], 'and no connection broke under one')
  const files = await load.verify()
  t.same(load.failures, [], `all ${files} acknowledged files are there`)
  t.equal(upstream.sessions(), opened, 'with the upstream sessions that they began with')
  t.comment(JSON.stringify(load.counts))
})
