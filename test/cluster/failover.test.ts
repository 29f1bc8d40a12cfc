/** The replica that holds a browser's stream is killed again and again while clients go on: the browser keeps its page, and nobody loses a file. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { ClusterLoad } from '../support/cluster-load.ts'
import { startCluster } from '../support/cluster.ts'
import type { Cluster, ClusterReplica } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { startRecordingProxy } from '../support/recording-proxy.ts'
import type { PassedRequest } from '../support/recording-proxy.ts'
import { fileServerSection, startFileServer } from '../support/upstreams/file-server.ts'
import { playwrightServer, startPlaywright } from '../support/upstreams/playwright.ts'
import { answerIn, WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const KILLS = 20

/** Playwright, as it is installed, ends a session that has no stream for about this long, in milliseconds. */
const SURVIVABLE_GAP_MS = 2_500

const directory = await mkdtemp(join(tmpdir(), 'adapter-failover-'))
const playwright = await startPlaywright(directory, {
  // A ping that is sent while there is no stream is lost for good, and ends the session when its time is over, however long that is. 0: none is sent.
  env: { PLAYWRIGHT_MCP_PING_TIMEOUT_MS: '0' },
})
const files = await startFileServer({ workspace: directory })
t.teardown(async () => {
  await playwright.stop()
  await files.stop()
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
})

t.test(`kill -9 of the holder of the streams, ${KILLS} times in a row under load`, async (t) => {
  const recorder = await startRecordingProxy(t, playwright.url)
  const cluster = await startCluster(t, {
    withProxy: true,
    root: join(directory, 'shared'),
    sections: { uploads: { ttl_seconds: 600 } },
    servers: () => [
      // Held by a replica all the time, whatever the client does: first by the one that the session was opened on.
      playwrightServer(recorder.url, directory, { hold_stream: true }),
      fileServerSection(files.url, directory),
    ],
  })
  await assembled(cluster)
  const [first] = cluster.replicas
  if (first === undefined) throw new Error('no replica')
  const browser = await WireSession.open(`${first.url}/mcp/playwright`)
  const page = `data:text/html,<title>kept</title>`
  t.match(await callOn(browser, cluster, 'browser_navigate', { url: page }), 'kept')
  await callOn(browser, cluster, 'browser_evaluate', { function: '() => { window.kills = 0 }' })
  const load = new ClusterLoad(cluster.url)
  await load.addClients(4)
  const opened = files.sessions()

  let holder: ClusterReplica = first
  let kept = 0
  for (let kill = 1; kill <= KILLS; kill++) {
    const before = takeovers(cluster)
    const killed = holder
    await killed.kill()
    await eventually(`kill ${kill}: another replica takes the stream over`, () => {
      const found = cluster.replicas.find(
        (replica) => countTakeovers(replica) > (before.get(replica.index) ?? 0),
      )
      if (found !== undefined) holder = found
      return found !== undefined
    })
    const restarted = killed.start()
    const answer = await callOn(browser, cluster, 'browser_evaluate', {
      function: '() => ++window.kills',
    })
    if (answer.includes(String(kill))) kept++
    else t.fail(`after kill ${kill} the page said ${answer}`)
    await restarted
    await assembled(cluster)
  }
  await load.stop()
  t.same(load.failures, [], 'no session was lost, and no answer was wrong')
  const count = await load.verify()
  t.ok(count > 0)
  t.same(load.failures, [], `all ${count} acknowledged files are there`)
  t.equal(files.sessions(), opened, 'with the upstream sessions that the clients began with')
  t.equal(
    recorder.passed.filter(
      ({ openedSession, sessionId }) => openedSession !== undefined && sessionId === undefined,
    ).length,
    1,
    'one upstream session had the browser',
  )

  const gaps = gapsBetween(recorder.passed.filter(({ method }) => method === 'GET'))
  t.equal(gaps.length, KILLS)
  t.comment(`gaps in ms as the upstream saw them: ${describe(gaps)}`)
  t.comment(`of that, to take over: ${describe(takeoverTimes(cluster))}`)
  t.comment(JSON.stringify({ ...load.counts, interruptions: load.interruptions.length }))
  t.ok(Math.max(...gaps) < SURVIVABLE_GAP_MS, 'none that would have ended the session')
})

/** Calls a tool through the cluster's one address; answers the text of its result. */
async function callOn(
  session: WireSession,
  cluster: Cluster,
  name: string,
  args: Readonly<Record<string, unknown>>,
): Promise<string> {
  const through = new WireSession(`${cluster.url}/mcp/playwright`, session.id, session.version)
  const answer = answerIn(await through.call(name, args))
  return JSON.stringify(answer.result?.['content'] ?? answer)
}

/** Waits until each replica counts all of them: one that the others never saw is missed only when its lease ends. */
async function assembled(cluster: Cluster): Promise<void> {
  const everyone = `"replicas_count":${cluster.replicas.length}`
  for (const { url, index } of cluster.replicas) {
    await eventually(`replica ${index + 1} knows the others`, async () =>
      (await (await fetch(`${url}/healthz`)).text()).includes(everyone),
    )
  }
}

function takeovers(cluster: Cluster): ReadonlyMap<number, number> {
  return new Map(cluster.replicas.map((replica) => [replica.index, countTakeovers(replica)]))
}

function countTakeovers(replica: ClusterReplica): number {
  return replica.logs().split('"msg":"stream taken over"').length - 1
}

/** From their log lines. */
function takeoverTimes(cluster: Cluster): number[] {
  const lines = cluster.logs().matchAll(/"ms":(\d+),"msg":"stream taken over"/g)
  return [...lines].map(([, ms]) => Number(ms))
}

/** How long the upstream had no stream, between each that ended and the next that was answered. */
function gapsBetween(streams: readonly PassedRequest[]): number[] {
  const served = streams.filter(({ status }) => status === 200)
  return served.slice(1).map((next, index) => {
    const before = served[index]
    return (next.answeredAtMs ?? 0) - (before?.endedAtMs ?? 0)
  })
}

function describe(times: readonly number[]): string {
  const sorted = times.toSorted((one, other) => one - other)
  const at = (part: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN)
  return `min ${at(0)}, median ${at(0.5)}, 90 % ${at(0.9)}, max ${at(1)} of ${sorted.length}`
}
