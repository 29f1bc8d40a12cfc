/** The replica that holds a browser's stream is killed again and again while clients go on: the browser keeps its page, and nobody loses a file. */
import t from 'tap'

import {
  assembled,
  callOn,
  openBrowser,
  startBrowserCluster,
  takeoversOf,
  takeoverTimes,
} from '../support/browser-cluster.ts'
import { ClusterLoad } from '../support/cluster-load.ts'
import type { ClusterReplica } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { describeTimes, gapsOf, lengthsOf } from '../support/stream-gaps.ts'

t.setTimeout(600_000)

const KILLS = 20

/** Playwright, as it is installed, ends a session that has no stream for about this long, in milliseconds. */
const SURVIVABLE_GAP_MS = 2_500

t.test(`kill -9 of the holder of the streams, ${KILLS} times in a row under load`, async (t) => {
  const { cluster, recorder, files } = await startBrowserCluster(t, {
    // A ping that is sent while there is no stream is lost for good, and ends the session when its time is over, however long that is. 0: none is sent.
    PLAYWRIGHT_MCP_PING_TIMEOUT_MS: '0',
  })
  const [first] = cluster.replicas
  if (first === undefined) throw new Error('no replica')
  const browser = await openBrowser(first)
  const page = `data:text/html,<title>kept</title>`
  t.match(await callOn(browser, cluster, 'browser_navigate', { url: page }), 'kept')
  await callOn(browser, cluster, 'browser_evaluate', { function: '() => { window.kills = 0 }' })
  const load = new ClusterLoad(cluster.url)
  await load.addClients(4)
  const fileSessions = files.sessions()

  let holder: ClusterReplica = first
  let kept = 0
  for (let kill = 1; kill <= KILLS; kill++) {
    const before = cluster.replicas.map((replica) => takeoversOf(replica, browser))
    const killed = holder
    await killed.kill()
    await eventually(`kill ${kill}: another replica takes the stream over`, () => {
      const found = cluster.replicas.find(
        (replica) => takeoversOf(replica, browser) > (before[replica.index] ?? 0),
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
  t.equal(files.sessions(), fileSessions, 'with the upstream sessions that the clients began with')
  const opened = recorder.passed.flatMap(({ openedSession, sessionId }) =>
    sessionId === undefined ? (openedSession ?? []) : [],
  )
  t.equal(opened.length, 1, 'one upstream session had the browser')

  const gaps = lengthsOf(gapsOf(opened[0] ?? '', recorder.passed))
  t.equal(gaps.length, KILLS)
  t.comment(`gaps in ms as the upstream saw them: ${describeTimes(gaps)}`)
  t.comment(`of that, to take over: ${describeTimes(takeoverTimes(cluster))}`)
  t.comment(JSON.stringify({ ...load.counts, interruptions: load.interruptions.length }))
  t.ok(Math.max(...gaps) < SURVIVABLE_GAP_MS, 'none that would have ended the session')
})
