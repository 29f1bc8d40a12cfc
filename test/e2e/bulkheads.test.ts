// One upstream that hangs takes nothing that the others need.
import t from 'tap'

import { codeOf } from '../support/breaker-rig.ts'
import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { sendResult, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import type { WireStream } from '../support/wire.ts'
import { initialize, open, send, WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const HANGING = 1_000

const hanging = await startScriptedUpstream()
const brisk = await startScriptedUpstream()
const replica = await startReplica({
  config: {
    core: { workers: 1, max_start_wait_seconds: 0 },
    servers: [
      { id: 'hanging', mount_path: '/mcp/hanging', upstream: { url: hanging.url } },
      { id: 'brisk', mount_path: '/mcp/brisk', upstream: { url: brisk.url } },
      {
        id: 'narrow',
        mount_path: '/mcp/narrow',
        upstream: { url: hanging.url, max_in_flight: 3 },
      },
      {
        id: 'pooled',
        mount_path: '/mcp/pooled',
        upstream: { url: hanging.url, max_connections: 2, max_in_flight: 4 },
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await hanging.stop()
  await brisk.stop()
})

/** Calls that are not answered, until they are given up. */
function hang(session: WireSession, calls: number): { giveUp(): Promise<void> } {
  const leaving = new AbortController()
  const answers = Array.from({ length: calls }, () =>
    open(session.url, {
      headers: session.headers,
      body: JSON.stringify(session.message('tools/call', { name: 'hang' })),
      signal: leaving.signal,
    }).catch(() => undefined),
  )
  return {
    giveUp: async () => {
      leaving.abort()
      await Promise.all(answers)
      await eventually('the upstream sees them go', () =>
        hanging.requests('tools/call hang').every(({ isCut }) => isCut),
      )
    },
  }
}

hanging.scripts.set('tools/call hang', () => undefined)

t.test('a thousand calls that hang on one upstream leave the other as it was', async (test) => {
  const session = await WireSession.open(`${replica.url}/mcp/hanging`)
  const calls = hang(session, HANGING)
  await eventually('all of them hang', () => hanging.requests('tools/call hang').length === HANGING)
  const neighbour = await WireSession.open(`${replica.url}/mcp/brisk`)
  const answers = await within(
    'the other upstream is served',
    Promise.all(Array.from({ length: 200 }, (_, n) => neighbour.call(`x${n}`))),
  )
  test.ok(answers.every(({ status }) => status === 200))
  test.equal((await initialize(`${replica.url}/mcp/brisk`)).status, 200)
  test.equal((await send(`${replica.url}/readyz`, { method: 'GET' })).status, 200)
  await calls.giveUp()
})

t.test('what is beyond max_in_flight is refused at once, and there is room again', async (test) => {
  const session = await WireSession.open(`${replica.url}/mcp/narrow`)
  const before = hanging.requests('tools/call hang').length
  const calls = hang(session, 3)
  await eventually('three hang', () => hanging.requests('tools/call hang').length === before + 3)
  const refused = await session.request('tools/list')
  test.equal(refused.status, 503)
  test.equal(refused.headers['retry-after'], '1')
  test.equal(codeOf(refused), 'ADAPTER_UPSTREAM_BUSY')
  test.equal(refused.json().id, 1 + 3)
  const told = await session.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params: {} })
  test.equal(told.status, 202, 'what is under way can be spoken of')
  await calls.giveUp()
  await eventually(
    'there is room again',
    async () => (await session.request('tools/list')).status === 200,
  )
  test.equal((await session.delete()).status, 200)
})

t.test('calls that wait for a connection count, so that they are bounded', async (test) => {
  const session = await WireSession.open(`${replica.url}/mcp/pooled`)
  const before = hanging.requests('tools/call hang').length
  const held: Promise<WireStream>[] = []
  for (let n = 0; n < 4; n++)
    held.push(session.stream(session.message('tools/call', { name: 'hang' })))
  await eventually('two hang', () => hanging.requests('tools/call hang').length === before + 2)
  await eventually(
    'two more wait, and there is no room for another',
    async () => (await session.request('tools/list')).status === 503,
  )
  await eventually('all of them are answered in the end', async () => {
    for (const request of hanging.requests('tools/call hang').slice(before))
      if (!request.response.writableEnded) sendResult(request, {})
    return hanging.requests('tools/call hang').length === before + 4
  })
  for (const request of hanging.requests('tools/call hang').slice(before))
    if (!request.response.writableEnded) sendResult(request, {})
  for (const answer of held) {
    const { status, ended } = await answer
    test.equal(status, 200)
    await ended
  }
})
