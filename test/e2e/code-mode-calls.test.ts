/** The tool calls of scripts on the wire: places, time limits, cancellation, failures of upstreams, and what ends a script from outside. */
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { resultOf, textOf } from '../support/tool-result.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest } from '../support/upstreams/scripted-upstream.ts'
import { answerIn, open, POST_HEADERS, send, WireSession } from '../support/wire.ts'

const scripted = await startScriptedUpstream()
const stateless = await startScriptedUpstream({ stateless: true })
const replica = await startReplica({
  config: {
    core: {
      workers: 1,
      max_message_bytes: '1Mi',
      code_mode_enabled: true,
      code_mode: { compute_seconds: 15, timeout_seconds: 20, max_tool_calls: 20, memory: '32Mi' },
    },
    sessions: { max_in_flight_per_session: 4 },
    servers: [
      {
        id: 'scripted',
        mount_path: '/mcp/scripted',
        upstream: { url: scripted.url },
        tool_defaults: { tool_call_timeout_seconds: 1 },
      },
      { id: 'patient', mount_path: '/mcp/patient', upstream: { url: scripted.url } },
      { id: 'modern', mount_path: '/mcp/modern', upstream: { url: stateless.url } },
    ],
  },
})
t.teardown(async () => {
  await replica.kill()
  await Promise.all([scripted.stop(), stateless.stop()])
})

t.test('calls at once never exceed the session’s places, and all are made', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/patient`)
  const other = await WireSession.open(`${replica.url}/mcp/patient`)
  const held: ReceivedRequest[] = []
  let most = 0
  // Answered four by four, each time after as many more as want to could have come.
  scripted.scripts.set('tools/call counted', async (request) => {
    most = Math.max(most, held.push(request))
    if (held.length !== 4) return
    for (let served = 0; served < 10; served++) await other.request('ping')
    for (const each of held.splice(0)) {
      sendResult(each, { content: [{ type: 'text', text: 'ok' }] })
    }
  })
  const code =
    'return (await Promise.all(Array.from({length: 20}, () => callTool("counted")))).length'
  const result = resultOf(answerIn(await session.call('patient_execute', { code })))
  t.equal(result.structuredContent?.result, 20, JSON.stringify(result))
  t.equal(most, 4, 'at once')
})

t.test('a silent tool is cancelled upstream after its time, and the script is told', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/scripted`)
  scripted.scripts.set('tools/call silent', () => {})
  const answer = await session.call('scripted_execute', {
    code: 'try { await callTool("silent") } catch (e) { return e.message }',
  })
  t.match(resultOf(answerIn(answer)).structuredContent?.result, /sent nothing for 1 s/)
  const [silent] = scripted.requests('tools/call silent')
  await eventually('it is cancelled', () =>
    cancelled().includes(silent === undefined ? '' : idOf(silent)),
  )
})

t.test(
  'cancelling kills the script and its calls; so does going away, and the next script runs',
  async (t) => {
    const session = await WireSession.open(`${replica.url}/mcp/patient`)
    scripted.scripts.set('tools/call hanging', () => {})
    const before = scripted.requests('tools/call hanging').length
    const hanging = (): ReceivedRequest[] => scripted.requests('tools/call hanging').slice(before)
    const code = 'await callTool("hanging"); await callTool("hanging")'

    const message = session.message('tools/call', { name: 'patient_execute', arguments: { code } })
    const pending = session.post(message)
    await eventually('the call is under way', () => hanging().length === 1)
    const notified = await session.post({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: message.id },
    })
    t.equal(notified.status, 202)
    t.equal(
      (await within('the end of the cancelled request', pending)).body,
      '',
      'a cancelled request gets no response',
    )
    await eventually('its call is cut and cancelled upstream', () => {
      const [first] = hanging()
      return first?.isCut === true && cancelled().includes(idOf(first))
    })
    t.notOk(
      cancelled().includes(message.id),
      'the upstream hears nothing of a request that it does not know',
    )

    const gone = new AbortController()
    const lost = open(session.url, {
      headers: session.headers,
      body: JSON.stringify(
        session.message('tools/call', { name: 'patient_execute', arguments: { code } }),
      ),
      signal: gone.signal,
    })
    await eventually('the next call is under way', () => hanging().length === 2)
    gone.abort()
    await t.rejects(lost)
    await eventually('its call is cut and cancelled upstream', () => {
      const [, second] = hanging()
      return second?.isCut === true && cancelled().includes(idOf(second))
    })
    const next = resultOf(answerIn(await session.call('patient_execute', { code: 'return 5' })))
    t.equal(next.structuredContent?.result, 5)
    t.equal(hanging().length, 2, 'no script went on')
  },
)

t.test('a listing that fails is answered as it would be without code mode', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/patient`)
  scripted.scripts.set('tools/list', (request) =>
    sendJson(request.response, {
      jsonrpc: '2.0',
      id: idOf(request),
      error: { code: -32050, message: 'not today' },
    }),
  )
  const failed = answerIn(await session.call('patient_search', { query: 'x' }))
  t.match(failed, { error: { code: -32050, message: 'not today' } })
  scripted.scripts.set('tools/list', ({ response }) => void response.writeHead(500).end('oops'))
  t.match(answerIn(await session.call('patient_search')), {
    error: { data: { code: 'ADAPTER_UPSTREAM_INVALID' } },
  })
  scripted.scripts.set('tools/list', (request) => {
    beginStream(request.response)
    const { params } = request.json as { params?: { cursor?: string } } // as code mode sends it
    const page = Number(params?.cursor ?? 0)
    const tools = [
      { name: `tool_${page}`, description: 'x', inputSchema: { type: 'object' } },
      5,
      { title: 'no name' },
    ]
    request.response.end(
      event({
        jsonrpc: '2.0',
        id: idOf(request),
        result: { tools, ...(page < 2 ? { nextCursor: String(page + 1) } : { nextCursor: '1' }) },
      }),
    )
  })
  t.match(
    textOf(resultOf(answerIn(await session.call('patient_search')))),
    /tool_0: x\n- tool_1: x\n- tool_2: x$/,
  )
  scripted.scripts.delete('tools/list')
})

t.test('answers that are none become errors in the script', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/patient`)
  const broken: readonly [string, (request: ReceivedRequest) => void, RegExp][] = [
    [
      'text',
      ({ response }) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end('no json'),
      /no JSON-RPC response/,
    ],
    [
      'cut',
      ({ response }) => {
        beginStream(response)
        response.write(': x\n\n')
        setImmediate(() => response.destroy())
      },
      /broke off|closed|connection|ended/i,
    ],
    [
      'early',
      ({ response }) => {
        beginStream(response)
        response.end()
      },
      /too early/,
    ],
    [
      'giant',
      (request) =>
        sendResult(request, { content: [{ type: 'text', text: 'x'.repeat(9 * 1024 * 1024) }] }),
      /larger than/,
    ],
    [
      'giant-event',
      (request) => {
        beginStream(request.response)
        request.response.end(
          event({ jsonrpc: '2.0', id: idOf(request), result: { x: 'x'.repeat(9 * 1024 * 1024) } }),
        )
      },
      /larger than/,
    ],
    ['odd', (request) => sendResult(request, 'text'), /the call failed/],
    [
      'asking',
      (request) => sendResult(request, { resultType: 'input_required', inputRequests: {} }),
      /asks for input/,
    ],
    [
      'refused',
      (request) =>
        sendJson(request.response, {
          jsonrpc: '2.0',
          id: idOf(request),
          error: { code: -32602, message: 'bad' },
        }),
      /^bad$/,
    ],
    ['empty-error', (request) => sendResult(request, { isError: true }), /the tool failed/],
  ]
  for (const [tool, script, expected] of broken) {
    scripted.scripts.set(`tools/call ${tool}`, script)
    const code = `try { return await callTool('${tool}') } catch (e) { return e.message }`
    const result = resultOf(answerIn(await session.call('patient_execute', { code })))
    t.match(result.structuredContent?.result, expected, tool)
  }
})

t.test(
  'arguments that no client could send are refused in the script, before anything is sent',
  async (t) => {
    const session = await WireSession.open(`${replica.url}/mcp/patient`)
    const before = scripted.received.length
    const bad: readonly [string, RegExp][] = [
      ['{text: "x".repeat(2e6)}', /core\.max_message_bytes/],
      ['JSON.parse("{\\"a\\":".repeat(600) + "1" + "}".repeat(600))', /nested deeper/],
    ]
    for (const [args, expected] of bad) {
      const code = `try { await callTool('any', ${args}) } catch (e) { return e.message }`
      const result = resultOf(answerIn(await session.call('patient_execute', { code })))
      t.match(result.structuredContent?.result, expected, textOf(result))
    }
    t.same(
      scripted.received.slice(before).filter(({ body }) => body.includes('tools/call')),
      [],
    )
  },
)

t.test('a script that computes holds up nobody else', async (t) => {
  const hostile = await WireSession.open(`${replica.url}/mcp/patient`)
  const other = await WireSession.open(`${replica.url}/mcp/patient`)
  scripted.scripts.set('tools/call fine', (request) => sendResult(request, { content: [] }))
  let isOver = false
  const params = { name: 'patient_execute', arguments: { code: 'for (;;);' } }
  const message = hostile.message('tools/call', params)
  const endless = hostile.post(message).finally(() => {
    isOver = true
  })
  for (let i = 0; i < 20; i++) {
    const direct = resultOf(answerIn(await other.call('fine')))
    t.same(direct.content, [])
  }
  const script = await other.call('patient_execute', { code: 'return callTool("fine")' })
  t.same(resultOf(answerIn(script)).structuredContent?.result, { content: [] })
  t.equal(isOver, false, 'all that while it went on')
  await hostile.post({
    jsonrpc: '2.0',
    method: 'notifications/cancelled',
    params: { requestId: message.id },
  })
  t.equal((await within('its end', endless)).body, '')
})

t.test('a lost upstream session is opened again under a script as under a client', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/patient`)
  scripted.sessions.clear()
  scripted.scripts.set('tools/call fine', (request) => sendResult(request, { content: [] }))
  const result = resultOf(
    answerIn(await session.call('patient_execute', { code: 'return callTool("fine")' })),
  )
  t.same(result.structuredContent?.result, { content: [] })
})

t.test(
  'a batch with code mode in it is refused, and a call without an id runs nothing',
  async (t) => {
    const session = await WireSession.open(`${replica.url}/mcp/patient`, { version: '2025-03-26' })
    const list = session.message('tools/list')
    const batch = await session.post([session.message('ping'), list])
    t.match(batch.json(), { error: { message: /batch/ } })
    await session.post([session.message('ping'), session.message('ping')])
    t.equal(scripted.requests('batch').length, 1, 'others pass')
    const before = scripted.received.length
    const params = { name: 'patient_execute', arguments: { code: 'await callTool("fine")' } }
    t.equal((await session.post({ jsonrpc: '2.0', method: 'tools/call', params })).status, 202)
    t.equal((await session.request('ping')).status, 200)
    t.same(
      scripted.received.slice(before).filter(({ body }) => body.includes('fine')),
      [],
    )
  },
)

t.test('a session that is ended ends its scripts', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/patient`)
  scripted.scripts.set('tools/call forever', () => {})
  const pending = session.call('patient_execute', { code: 'await callTool("forever")' })
  await eventually(
    'the call is under way',
    () => scripted.requests('tools/call forever').length === 1,
  )
  t.equal((await session.delete()).status, 200)
  const result = resultOf(answerIn(await within('the answer', pending)))
  t.match(textOf(result), /the session was ended/)
  await eventually(
    'its call is cut',
    () => scripted.requests('tools/call forever')[0]?.isCut === true,
  )
})

t.test(
  'without sessions, a script ends with its connection and with nothing that others send',
  async (t) => {
    const url = `${replica.url}/mcp/modern`
    const version = '2026-07-28'
    const meta = {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientInfo': { name: 'wire', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const headers = { ...POST_HEADERS, 'mcp-protocol-version': version }
    stateless.scripts.set('tools/call forever', () => {})
    const code = 'await callTool("forever")'
    const params = { name: 'modern_execute', arguments: { code }, _meta: meta }
    const gone = new AbortController()
    const lost = open(url, {
      headers: { ...headers, 'mcp-method': 'tools/call', 'mcp-name': 'modern_execute' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }),
      signal: gone.signal,
    })
    const calls = (): ReceivedRequest[] => stateless.requests('tools/call forever')
    await eventually('the call is under way', () => calls().length === 1)
    const cancel = {
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 1, _meta: meta },
    }
    await send(url, { headers, body: JSON.stringify(cancel) })
    t.equal(calls()[0]?.isCut, false, 'somebody else may have used that id')
    gone.abort()
    await t.rejects(lost)
    await eventually('its call is cut', () => calls()[0]?.isCut === true)
  },
)

t.test('scripts do not keep a replica from stopping', async (t) => {
  const session = await WireSession.open(`${replica.url}/mcp/patient`)
  session.call('patient_execute', { code: 'for (;;);' }).catch(() => undefined)
  session.call('patient_execute', { code: 'await callTool("hanging")' }).catch(() => undefined)
  const before = scripted.requests('tools/call hanging').length
  await eventually(
    'both are under way',
    () => scripted.requests('tools/call hanging').length > before,
  )
  t.equal(await replica.stop(), 0)
})

function cancelled(): unknown[] {
  return scripted
    .requests('notifications/cancelled')
    .map(({ json }) => (json as { params: { requestId: unknown } }).params.requestId) // as our adapter writes it
}
