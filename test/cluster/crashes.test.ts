/** Parts of a cluster crash while clients go on: a worker, Redis, the upstream. Sessions and acknowledged files outlive them. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t from 'tap'

import { ClusterLoad } from '../support/cluster-load.ts'
import { startCluster } from '../support/cluster.ts'
import { eventually, within } from '../support/eventually.ts'
import { startRecordingProxy } from '../support/recording-proxy.ts'
import { freePort } from '../support/redis.ts'
import { fileServerSection, startFileServer } from '../support/upstreams/file-server.ts'
import { answerIn, WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const CRASH_ON_FILE = new URL('../support/crash-on-file.js', import.meta.url).href
const REPORT_SERVER = fileURLToPath(
  new URL('../../../examples/report-server/server.mjs', import.meta.url),
)

const directory = await mkdtemp(join(tmpdir(), 'adapter-crashes-'))
const files = await startFileServer({ workspace: directory })
t.teardown(async () => {
  await files.stop()
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
})

t.test('workers of a replica crash: their sessions and files are there', async (t) => {
  const crashFile = join(directory, 'crash')
  const cluster = await startCluster(t, {
    replicas: 2,
    core: { workers: 2 },
    sections: { uploads: { ttl_seconds: 600 } },
    servers: () => [fileServerSection(files.url, directory)],
    env: () => ({ NODE_OPTIONS: `--import ${CRASH_ON_FILE}`, CRASH_WORKER_FILE: crashFile }),
  })
  const load = new ClusterLoad(cluster.url)
  await load.addClients(8)
  const opened = files.sessions()
  for (let crash = 1; crash <= 4; crash++) {
    const before = { ...load.counts }
    await writeFile(crashFile, '')
    await eventually('a worker crashed', () => !existsSync(crashFile))
    await eventually(
      `after crash ${crash} all kinds of work go on`,
      () =>
        load.counts.calls > before.calls + 5 &&
        load.counts.uploads > before.uploads + 2 &&
        load.counts.downloads > before.downloads + 2,
    )
  }
  await load.stop()
  t.match(cluster.logs(), /this worker was told to crash/)
  t.same(load.failures, [], 'no session was lost, and no answer was wrong')
  const count = await load.verify()
  t.ok(count > 20)
  t.same(load.failures, [], `all ${count} acknowledged files are there`)
  t.equal(files.sessions(), opened, 'with the upstream sessions that the clients began with')
})

t.test('Redis is killed and comes back: service returns by itself, with everything', async (t) => {
  const cluster = await startCluster(t, {
    withProxy: true,
    sections: { uploads: { ttl_seconds: 600 } },
    servers: () => [fileServerSection(files.url, directory)],
    redisArgs: ['--appendonly', 'yes', '--appendfsync', 'always'],
  })
  const load = new ClusterLoad(cluster.url)
  await load.addClients(4)
  const opened = files.sessions()
  for (let kill = 1; kill <= 3; kill++) {
    await eventually('work goes on', () => load.counts.uploads > kill)
    await cluster.redis.kill()
    const interrupted = load.interruptions.length
    await eventually('clients are told', () => load.interruptions.length > interrupted)
    await cluster.redis.restart({ keepData: true })
    const before = { ...load.counts }
    await eventually(
      `after kill ${kill} all kinds of work go on`,
      () =>
        load.counts.calls > before.calls + 5 &&
        load.counts.uploads > before.uploads + 2 &&
        load.counts.downloads > before.downloads + 2,
      20_000,
    )
  }
  await load.stop()
  t.same(load.failures, [], 'no session was lost, and no answer was wrong')
  const count = await load.verify()
  t.ok(count > 10)
  t.same(load.failures, [], `all ${count} acknowledged files are there`)
  t.equal(files.sessions(), opened, 'with the upstream sessions that the clients began with')
})

t.test(
  'the upstream is killed and comes back: its session is initialised again, once',
  async (t) => {
    const root = join(directory, 'upstream-root')
    await mkdir(join(root, 'sessions'), { recursive: true })
    const port = await freePort()
    let upstream = await startReportServer(port, root)
    t.teardown(() => upstream.kill('SIGKILL'))
    const recorder = await startRecordingProxy(t, `http://127.0.0.1:${port}/mcp`)
    const cluster = await startCluster(t, {
      root,
      servers: () => [{ id: 'report', mount_path: '/mcp/report', upstream: { url: recorder.url } }],
    })
    const opened = await WireSession.open(`${cluster.url}/mcp/report`)
    const sessions = cluster.replicas.map(
      ({ url }) => new WireSession(`${url}/mcp/report`, opened.id, opened.version),
    )
    const initialized = (): number =>
      recorder.passed.filter(
        ({ openedSession, sessionId }) => openedSession !== undefined && sessionId === undefined,
      ).length
    for (let kill = 1; kill <= 3; kill++) {
      const gone = new Promise((resolve) => upstream.once('exit', resolve))
      upstream.kill('SIGKILL')
      await gone
      const refused = await sessions[0]?.request('tools/list')
      t.equal(refused?.status, 502, 'while it is away clients are told so')
      t.equal(refused?.json().error?.code, 1502)
      upstream = await startReportServer(port, root)
      const answers = await Promise.all(
        Array.from({ length: 5 }).flatMap(() =>
          sessions.map((session) => session.request('tools/list')),
        ),
      )
      for (const answer of answers) t.match(JSON.stringify(answerIn(answer)), 'summarize_file')
      t.equal(initialized(), 1 + kill, 'three replicas agree on one new upstream session')
    }
  },
)

/** The example upstream as a process of its own, on a given port. */
async function startReportServer(port: number, root: string): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    [REPORT_SERVER, `--port=${port}`, `--files=${join(root, 'sessions')}`],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const listening = new Promise<void>((resolve) => {
    child.stdout.on('data', (text) => {
      if (String(text).includes('listening on')) resolve()
    })
  })
  await within('the report server listens', listening)
  return child
}
