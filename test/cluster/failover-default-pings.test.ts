/**
 * The replica that holds most browsers' streams is killed again and again, at any moment between two pings of a Playwright that is configured as it
 * comes. A ping that is lost costs a browser its page; nothing else may, and no session of the adapter's is lost.
 */
import { setTimeout as delay } from 'node:timers/promises'

import t from 'tap'
import type { Test } from 'tap'

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
import { describeTimes, gapsOf, lengthsOf, quantile, streamsOf } from '../support/stream-gaps.ts'
import { endOf, isAnswering, PING_EVERY_MS, whyLost } from '../support/upstream-loss.ts'
import type { WireSession } from '../support/wire.ts'

t.setTimeout(300_000)

const KILLS = 6
const BROWSERS = 4

/** Playwright, as it is installed, ends a session that has no stream for about this long, in milliseconds. */
const SURVIVABLE_GAP_MS = 2_500

/** A session with a page, and what became of it. */
interface Browser {
  readonly session: WireSession
  /** What its page says. */
  mark: string
  /** Who has its stream. */
  holder: ClusterReplica
  /** Its sessions at Playwright; the last one is the present one. */
  readonly upstreamIds: string[]
  /** When its holder was killed, in milliseconds of `performance.now()`. */
  readonly killedAtMs: number[]
}

const { cluster, recorder, files } = await startBrowserCluster(t)
const [first] = cluster.replicas
if (first === undefined) throw new Error('no replica')
const browsers: Browser[] = []
for (let index = 0; index < BROWSERS; index++) {
  const session = await openBrowser(first)
  const browser = { session, mark: '', holder: first, upstreamIds: [], killedAtMs: [] }
  await showPage(browser, `page-${index}`)
  browsers.push(browser)
}

t.test(`kill -9 of a holder of streams, ${KILLS} times under load`, async (t) => {
  const load = new ClusterLoad(cluster.url)
  await load.addClients(4)
  const opened = files.sessions()
  const losses: string[] = []
  for (let kill = 1; kill <= KILLS; kill++) {
    const holder = holderOfMost()
    const held = browsers.filter((browser) => browser.holder === holder)
    // Just now all have answered a ping: so that the kill falls anywhere between two.
    await delay(Math.random() * PING_EVERY_MS)
    await takenOver(held, () => holder.kill())
    const restarted = holder.start()
    for (const browser of held) {
      await eventually(`kill ${kill}: ${browser.mark} answers pings or is lost`, () => {
        const id = upstreamOf(browser)
        return isAnswering(id, recorder.passed) || endOf(id, recorder.passed) !== undefined
      })
    }
    await restarted
    await assembled(cluster)
    for (const browser of held) {
      const isLost = endOf(upstreamOf(browser), recorder.passed) !== undefined
      const text = await markOf(browser)
      const title = `${browser.mark} ${isLost ? 'is lost' : 'is kept'} by kill ${kill}`
      t.match(text, `mark: ${isLost ? 'nothing' : browser.mark}.`, title)
      if (!isLost) continue
      const why = whyLost(upstreamOf(browser), recorder.passed)
      if (why === undefined) t.fail('it was lost for no reason', { passed: recorder.passed })
      else losses.push(why)
      await startedAfresh(t, browser)
    }
  }
  await load.stop()
  t.same(load.failures, [], 'no session was lost, and no answer was wrong')
  t.equal(files.sessions(), opened, 'nor was an upstream session that needs no stream')
  t.equal(recorder.passed.filter(({ method }) => method === 'DELETE').length, 0, 'nor ended by us')
  t.equal(upstreamSessions().length, BROWSERS + losses.length, 'none was replaced but a lost one')
  for (const browser of browsers) assertLeftByKillsOnly(t, browser)

  const gaps = upstreamSessions().flatMap((id) => lengthsOf(gapsOf(id, recorder.passed)))
  t.comment(`gaps in ms as the upstream saw them: ${describeTimes(gaps)}`)
  t.comment(`of that, to take over: ${describeTimes(takeoverTimes(cluster))}`)
  t.comment(`kept their page: ${gaps.length - losses.length} of ${gaps.length}`)
  for (const loss of losses) t.comment(`lost: ${loss}`)
  t.ok(quantile(gaps, 0.5) < SURVIVABLE_GAP_MS, 'soon enough for the upstream')
})

t.test('a browser whose ping died with the holder gets a working one', async (t) => {
  const [browser] = browsers
  if (browser === undefined) throw new Error('no browser')
  const { holder } = browser
  const lostId = upstreamOf(browser)
  const killed = new Promise<void>((resolve, reject) => {
    recorder.onPing = ({ sessionId }) => {
      if (sessionId !== lostId) return true
      recorder.onPing = undefined
      holder.kill().then(resolve, reject)
      return false
    }
  })
  const held = browsers.filter((other) => other.holder === holder)
  await takenOver(held, () => killed)
  await eventually(
    'Playwright ends the session',
    () => endOf(lostId, recorder.passed) !== undefined,
  )
  t.equal(whyLost(lostId, recorder.passed), 'a ping was lost with its reader', 'rightly so')
  const text = await markOf(browser)
  t.match(text, 'mark: nothing.', 'the session goes on with a new page')
  await startedAfresh(t, browser)
  t.match(await markOf(browser), browser.mark, 'which stays')
  for (const other of browsers) assertLeftByKillsOnly(t, other)
})

/** Kills a holder; resolves when all these streams of its have been taken over. */
async function takenOver(held: readonly Browser[], kill: () => Promise<void>): Promise<void> {
  const before = new Map(
    held.flatMap(({ session }) =>
      cluster.replicas.map((replica) => [
        `${session.id} ${replica.index}`,
        takeoversOf(replica, session),
      ]),
    ),
  )
  const beganAtMs = performance.now()
  await kill()
  for (const browser of held) {
    const { session } = browser
    browser.killedAtMs.push(beganAtMs)
    await eventually(`another replica takes the stream of ${browser.mark} over`, () => {
      const found = cluster.replicas.find(
        (replica) =>
          takeoversOf(replica, session) > (before.get(`${session.id} ${replica.index}`) ?? 0),
      )
      if (found !== undefined) browser.holder = found
      return found !== undefined
    })
  }
}

/** A browser that was lost has one new upstream session, with a stream, and can be used. */
async function startedAfresh(t: Test, browser: Browser): Promise<void> {
  const lostId = upstreamOf(browser)
  await showPage(browser, `${browser.mark}-again`)
  t.not(upstreamOf(browser), lostId, `${browser.mark} has an upstream session of its own`)
  await eventually(`${browser.mark} answers pings`, () =>
    isAnswering(upstreamOf(browser), recorder.passed),
  )
}

/** Has the browser show a page, and waits until its pings are answered. */
async function showPage(browser: Browser, mark: string): Promise<void> {
  const url = `data:text/html,<title>${mark}</title>`
  await callOn(browser.session, cluster, 'browser_navigate', { url })
  browser.mark = mark
  const id = upstreamSessions().at(-1)
  if (id === undefined) throw new Error('no upstream session')
  if (!browser.upstreamIds.includes(id)) browser.upstreamIds.push(id)
  await callOn(browser.session, cluster, 'browser_evaluate', {
    function: `() => { window.mark = '${mark}' }`,
  })
  await eventually(`${mark} answers pings`, () => isAnswering(id, recorder.passed))
}

function markOf({ session }: Browser): Promise<string> {
  return callOn(session, cluster, 'browser_evaluate', {
    function: `() => 'mark: ' + (window.mark ?? 'nothing') + '.'`,
  })
}

function upstreamOf({ upstreamIds }: Browser): string {
  return upstreamIds.at(-1) ?? ''
}

/** The sessions that Playwright has opened, in order. */
function upstreamSessions(): string[] {
  return recorder.passed.flatMap(({ sessionId, openedSession }) =>
    sessionId === undefined ? (openedSession ?? []) : [],
  )
}

function holderOfMost(): ClusterReplica {
  const counted = cluster.replicas.map((replica) => ({
    replica,
    count: browsers.filter(({ holder }) => holder === replica).length,
  }))
  const [most] = counted.toSorted((one, other) => other.count - one.count)
  if (most === undefined) throw new Error('no replica')
  return most.replica
}

/** Whoever reads a stream of this browser's stays until Playwright ends it, or dies: each was left as often as its holder was killed, and then. */
function assertLeftByKillsOnly(t: Test, { mark, upstreamIds, killedAtMs }: Browser): void {
  const leftAtMs = upstreamIds
    .flatMap((id) => streamsOf(id, recorder.passed))
    .flatMap(({ isWhole, endedAtMs }) => (isWhole ? [] : (endedAtMs ?? [])))
  t.equal(leftAtMs.length, killedAtMs.length, `${mark} was left by those who died only`)
  t.ok(
    leftAtMs.every((ms, index) => ms >= (killedAtMs[index] ?? Infinity)),
    'when they did',
  )
}
