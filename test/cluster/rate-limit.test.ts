/** One principal and its limit on three replicas: no more is let through than by one, others notice nothing. */
import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import { sendJson, startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { answerIn, initialize, WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const BURST = 40
const upstream = await startScriptedUpstream()
t.teardown(() => upstream.stop())
const cluster = await startCluster(t, {
  servers: () => [
    { id: 'one', mount_path: '/mcp/one', upstream: { url: upstream.url } },
    {
      id: 'code',
      mount_path: '/mcp/code',
      upstream: { url: upstream.url },
      code_mode_enabled: true,
    },
  ],
  core: {
    auth: {
      enabled: true,
      tokens: [
        { name: 'busy', token: 'token of the busy one' },
        { name: 'calm', token: 'token of the calm one' },
        { name: 'batching', token: 'token of the batching one' },
        { name: 'scripting', token: 'token of the scripting one' },
      ],
    },
    rate_limit: { requests_per_minute: 1, burst: BURST },
  },
})
const busy = { authorization: 'Bearer token of the busy one' }
const calm = { authorization: 'Bearer token of the calm one' }

t.test('a principal gets its burst over all replicas, then 429, and others go on', async (t) => {
  const [first] = cluster.replicas
  const url = `${first?.url}/mcp/one`
  // Two requests: initialize and its notification.
  const session = await WireSession.open(url, { headers: busy })
  const answers = await Promise.all(
    Array.from({ length: 3 * BURST }, (_, index) => {
      const replica = cluster.replicas[index % cluster.replicas.length]
      const elsewhere = new WireSession(
        `${replica?.url}/mcp/one`,
        session.id,
        session.version,
        busy,
      )
      return elsewhere.request('ping')
    }),
  )
  const passed = answers.filter(({ status }) => status === 200)
  const refused = answers.filter(({ status }) => status === 429)
  t.equal(passed.length + refused.length, answers.length)
  // What a replica was granted and did not use in time is lost; more is never let through, but for the minute that may pass.
  t.ok(passed.length <= BURST - 2 + 1, `${passed.length} of at most ${BURST - 2}`)
  t.ok(passed.length >= BURST / 2, `${passed.length} are most of it`)
  for (const answer of refused) {
    t.match(answer.json(), {
      jsonrpc: '2.0',
      error: { code: 1429, data: { code: 'ADAPTER_RATE_LIMIT', retryable: true } },
    })
    const seconds = Number(answer.headers['retry-after'])
    t.ok(seconds >= 1 && seconds <= 60, `again in ${seconds} s`)
  }
  t.equal((await session.get()).status, 429, 'a GET counts')
  t.equal((await session.delete()).status, 429, 'so does a DELETE')
  t.equal((await initialize(url, '2025-06-18', calm)).status, 200, 'others have their own')
  t.equal((await initialize(url)).status, 401, 'who is nobody is not counted')
})

t.test('a batch costs as many requests as it has messages, over all replicas', async (t) => {
  const headers = { authorization: 'Bearer token of the batching one' }
  const [first, second] = cluster.replicas
  const session = await WireSession.open(`${first?.url}/mcp/one`, {
    headers,
    version: '2025-03-26',
  })
  const elsewhere = new WireSession(`${second?.url}/mcp/one`, session.id, session.version, headers)
  const batch = (length: number): object[] => Array.from({ length }, () => session.message('ping'))
  upstream.scripts.set('batch', (request, response) => {
    // What it is, is for the test to know.
    const messages = request.json as { id: unknown }[]
    sendJson(
      response,
      messages.map(({ id }) => ({ jsonrpc: '2.0', id, result: {} })),
    )
  })
  const tooMany = await session.post(batch(BURST + 1))
  t.match([tooMany.status, tooMany.json().error?.message], [400, /more than core.rate_limit/])
  t.equal((await session.post(batch(30))).status, 200)
  const refused = await elsewhere.post(batch(10))
  t.equal(refused.status, 429, 'with those before, it would be more than the burst')
  t.ok(Number(refused.headers['retry-after']) >= 1)
  t.equal(upstream.requests('batch').length, 1, 'nothing of what was refused reached the upstream')
})

t.test('each call of a script costs a request, and fails alone', async (t) => {
  const headers = { authorization: 'Bearer token of the scripting one' }
  const [first, second] = cluster.replicas
  const session = await WireSession.open(`${first?.url}/mcp/code`, { headers })
  const elsewhere = new WireSession(`${second?.url}/mcp/code`, session.id, session.version, headers)
  const code = `
    let passed = 0
    let error = ''
    for (let i = 0; i < 30; i++) {
      try { await call_tool('t', {}); passed++ } catch (e) { error = String(e.message) }
    }
    return { passed, error }`
  const outcomes: (Readonly<Record<string, unknown>> | undefined)[] = []
  for (const one of [session, elsewhere]) {
    const answer = answerIn(await one.call('code_execute', { code }))
    t.notOk(answer.result?.['isError'])
    outcomes.push(answer.result?.['structuredContent'] as (typeof outcomes)[number])
  }
  t.match(outcomes[0], { result: { passed: 30, error: '' } })
  // What the script returns.
  const result = outcomes[1]?.['result'] as { passed: number; error: string } | undefined
  // Two requests for the session, two for the scripts, thirty for the first one's calls.
  t.ok((result?.passed ?? 0) <= BURST - 34 + 1, `${result?.passed} more`)
  t.match(result?.error, /too many requests: the limit of core.rate_limit is reached/)
})
