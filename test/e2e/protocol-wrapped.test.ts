// Answers that an adapter changes: only the one message changes, wherever and however it arrives, and everything around it stays.
import { mkdir, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { dirname } from 'node:path'
import { gzipSync } from 'node:zlib'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { ReceivedRequest } from '../support/upstreams/scripted-upstream.ts'
import { messagesIn, WireSession } from '../support/wire.ts'
import type { RpcAnswer } from '../support/wire.ts'

const upstream = await startScriptedUpstream({ capabilities: { tools: {} } })
const replica = await startReplica({
  config: {
    // Each of many failures in a row is looked at.
    core: {
      workers: 1,
      max_response_message_bytes: '1Mi',
      upstream_ping: { enabled: false },
    },
    sessions: { max_in_flight_per_session: 4 },
    servers: [
      {
        id: 's',
        mount_path: '/mcp',
        upstream: { url: upstream.url },
        disabled_tools: ['hidden'],
        adapters: [
          { type: 'artifact_producer', tools: ['make'], output_path_argument: 'path' },
          { type: 'upload_consumer', tools: ['read'], file_path_argument: 'path' },
        ],
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
})
const url = `${replica.url}/mcp`

/** Does what the tool is asked to: writes a file where the adapter said. */
async function make(json: unknown, content = 'made'): Promise<Record<string, unknown>> {
  const { params } = json as { params: { arguments: { path: string } } } // a `tools/call make`
  const { path } = params.arguments
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
  return {
    content: [{ type: 'text', text: `saved ${path}` }],
    'x-kept': { deep: [1, null] },
    _meta: { 'vendor/y': true },
  }
}

/** The URI of the artifact in the answer to a `make`. */
function artifactIn(answer: RpcAnswer | undefined): string {
  const meta = answer?.result?.['_meta'] as { artifact?: { artifact_uri?: string } } | undefined // as the adapter documents it
  return meta?.artifact?.artifact_uri ?? `no artifact in ${JSON.stringify(answer)}`
}

async function expectArtifact(
  session: WireSession,
  answer: RpcAnswer | undefined,
  content = 'made',
): Promise<void> {
  const read = await session.request('resources/read', { uri: artifactIn(answer) })
  t.match(read.json(), { result: { contents: [{ text: content }] } }, artifactIn(answer))
}

const MAKE = { name: 'make', arguments: { path: 'out.txt' } }

t.test('a wrapped call over an event stream changes its answer alone', async (t) => {
  const session = await WireSession.open(url)
  const before = [
    ': comment\r\nretry: 77\r\n\r\n',
    'id: 1\r\ndata:\r\n\r\n',
    'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"n":12345678901234567890,"n":1}}\n\n',
    'data: {"jsonrpc":"2.0","id":1,"method":"elicitation/create",\rdata: "params":{"ü":"報"}}\r\r',
    'data: not JSON at all\n\n',
    'data: {"jsonrpc":"2.0","id":"other","result":{"big":12345678901234567890}}\n\n',
  ].join('')
  const after =
    'id: 9\ndata: {"jsonrpc":"2.0","method":"notifications/late","params":{"n":1.0}}\n\n'
  upstream.scripts.set('tools/call make', async (request, response) => {
    const result = await make(request.json)
    beginStream(response)
    const answer = JSON.stringify({ jsonrpc: '2.0', id: idOf(request), 'x-envelope': 1, result })
    const sent = Buffer.from(`${before}id: 8\r\nevent: message\r\ndata: ${answer}\r\n\r\n${after}`)
    for (let at = 0; at < sent.length; at += 11) {
      response.write(sent.subarray(at, at + 11))
      if (at % 110 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    response.end()
  })
  const message = session.message('tools/call', MAKE)
  const stream = await session.stream(message)
  t.equal(await stream.ended, 'end')
  const text = stream.text().replace(/^:\n\n/, '')
  t.equal(text.slice(0, before.length), before)
  t.equal(text.slice(-after.length), after)
  const changed = text.slice(before.length, -after.length)
  t.match(changed, /^id: 8$/m)
  t.match(changed, /^event: message$/m)
  const [answer] = messagesIn(changed)
  t.match(answer, {
    id: message.id,
    'x-envelope': 1,
    result: { 'x-kept': { deep: [1, null] }, _meta: { 'vendor/y': true } },
  })
  await expectArtifact(session, answer)
  await session.delete()
})

t.test(
  'a wrapped call answered in JSON keeps unknown fields; a JSON-RPC error stays an error',
  async (t) => {
    const session = await WireSession.open(url)
    upstream.scripts.set('tools/call make', async (request, response) => {
      const result = await make(request.json, 'grüße')
      sendJson(response, { jsonrpc: '2.0', id: idOf(request), 'x-envelope': 1, result })
    })
    const message = session.message('tools/call', MAKE)
    const answer = (await session.post(message)).json()
    t.match(answer, { id: message.id, 'x-envelope': 1, result: { 'x-kept': { deep: [1, null] } } })
    await expectArtifact(session, answer, 'grüße')
    t.equal(upstream.requests('tools/call make').at(-1)?.headers['accept-encoding'], 'identity')

    upstream.scripts.set('tools/call make', (request, response) => {
      const error = { code: -32603, message: 'no', data: { n: 1 } }
      sendJson(response, { jsonrpc: '2.0', id: idOf(request), error })
    })
    t.match((await session.call('make')).json(), { error: { code: -32603, data: { n: 1 } } })
    await session.delete()
  },
)

t.test(
  'a call that was interrupted still becomes an artifact when its answer comes on a resumed stream',
  async (t) => {
    for (const how of ['client', 'upstream', 'upstream ends'] as const) {
      const session = await WireSession.open(url)
      let result: Record<string, unknown> = {}
      let call: ReceivedRequest | undefined
      upstream.scripts.set('tools/call make', async (request, response) => {
        call = request
        beginStream(response)
        response.write('id: first\ndata:\n\n')
        result = await make(request.json, how)
      })
      upstream.scripts.set('GET', (request, response) => {
        beginStream(response)
        if (request.headers['last-event-id'] !== 'first' || call === undefined) return
        response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }, 'second'))
        response.write(event({ jsonrpc: '2.0', id: idOf(call), result }, 'third'))
      })
      const message = session.message('tools/call', MAKE)
      const stream = await session.stream(message)
      await stream.until('id: first')
      await eventually('the file is written', () => Object.keys(result).length > 0)
      if (how === 'client') stream.close()
      else if (how === 'upstream') call?.response.destroy()
      else call?.response.end()
      t.equal(await stream.ended, how === 'upstream ends' ? 'end' : 'cut', how)
      t.notMatch(stream.text(), 'error')
      const resumed = await session.get({ 'last-event-id': 'first' })
      await resumed.until('third')
      await eventually('the whole event', () => messagesIn(resumed.text()).length >= 2)
      const answer = messagesIn(resumed.text()).find(({ id }) => id === message.id)
      await expectArtifact(session, answer, how)
      resumed.close()
      await session.delete()
    }
    upstream.scripts.delete('GET')
  },
)

t.test(
  'a new artifact is told on the standalone stream, between the upstream’s events',
  async (t) => {
    const session = await WireSession.open(url)
    const told = 'notifications/resources/list_changed'
    upstream.scripts.set('tools/call make', async (request) =>
      sendResult(request, await make(request.json)),
    )
    let own: ServerResponse | undefined
    upstream.scripts.set('GET', (_request, response) => {
      own = response
      beginStream(response)
      response.write('data: {"jsonrpc":"2.0",')
    })
    const stream = await session.get()
    await session.call('make', { path: 'a.txt' })
    await stream.until(told)
    own?.write('"method":"notifications/mine"}\r\n')
    own?.write('\r\n')
    await stream.until('notifications/mine')
    await session.call('make', { path: 'b.txt' })
    await eventually('again', () => messagesIn(stream.text()).length === 3)
    t.same(
      messagesIn(stream.text()).map(({ method }) => method),
      [told, 'notifications/mine', told],
      'each whole, although the first came while the upstream was in the middle of an event',
    )
    stream.close()

    upstream.scripts.delete('GET')
    const without = await session.get()
    t.equal(
      without.status,
      200,
      'the adapter has something to tell even when the upstream answers 405',
    )
    await session.call('make', { path: 'c.txt' })
    await without.until(told)
    await session.delete()
    t.equal(await within('the stream ends with its session', without.ended), 'end')
  },
)

t.test('a batch may mix wrapped, helper and other calls and notifications', async (t) => {
  const session = await WireSession.open(url, { version: '2025-03-26' })
  const ids = ['wrapped', 'helper', 'plain', 'disabled']
  const batch = [
    { jsonrpc: '2.0', id: 'wrapped', method: 'tools/call', params: MAKE },
    { jsonrpc: '2.0', id: 'helper', method: 'tools/call', params: { name: 's_get_upload_url' } },
    { jsonrpc: '2.0', method: 'notifications/x', params: { kept: 1 } },
    { jsonrpc: '2.0', id: 'plain', method: 'tools/call', params: { name: 'plain' } },
    { jsonrpc: '2.0', id: 'disabled', method: 'tools/call', params: { name: 'hidden' } },
  ]
  const answers = async (json: unknown): Promise<Record<string, unknown>[]> => {
    const messages = json as Record<string, unknown>[] // what the test sent, in part
    t.same(
      messages.map(({ id, method }) => id ?? method),
      ['wrapped', 'notifications/x', 'plain'],
      'the upstream gets what is its own',
    )
    return [
      { jsonrpc: '2.0', id: 'plain', result: { plain: true } },
      { jsonrpc: '2.0', id: 'wrapped', result: await make(messages[0]) },
    ]
  }
  upstream.scripts.set('batch', async (request, response) =>
    sendJson(response, await answers(request.json)),
  )
  const whole = await session.post(batch)
  t.equal(whole.status, 200, whole.body)
  const byId = new Map((JSON.parse(whole.body) as RpcAnswer[]).map((answer) => [answer.id, answer])) // checked next
  t.same(new Set(byId.keys()), new Set(ids))
  t.match(byId.get('helper'), { result: { structuredContent: { upload_url: /^http/ } } })
  t.match(byId.get('plain'), { result: { plain: true } })
  t.match(byId.get('disabled'), { error: { code: -32602 } })
  await expectArtifact(session, byId.get('wrapped'))

  upstream.scripts.set('batch', async (request, response) => {
    const [plain, wrapped] = await answers(request.json)
    beginStream(response)
    response.write(event(wrapped))
    response.end(event(plain))
  })
  const streamed = messagesIn((await session.post(batch)).body)
  t.same(new Set(streamed.map(({ id }) => id)), new Set(ids))
  await expectArtifact(
    session,
    streamed.find(({ id }) => id === 'wrapped'),
  )

  upstream.scripts.set('batch', (_request, response) => void response.writeHead(202).end())
  const local = await session.post(batch.slice(1, 3))
  t.equal(local.status, 200, 'the helper is answered although the upstream only accepts')
  t.match(JSON.parse(local.body), [{ id: 'helper', result: {} }])
  const before = upstream.received.length
  const alone = await session.post(batch.slice(1, 2))
  t.match(JSON.parse(alone.body), [{ id: 'helper' }])
  t.equal(upstream.received.length, before)

  upstream.scripts.set('batch', (_request, response) => void response.destroy())
  const failed = await session.post([batch[0], batch[3]])
  t.equal(failed.status, 502)
  t.match(JSON.parse(failed.body), [
    { id: 'wrapped', error: { code: 1502 } },
    { id: 'plain', error: { code: 1502 } },
  ])
  await session.delete()
})

t.test('a call that the upstream could take for another one is refused', async (t) => {
  const session = await WireSession.open(url)
  const call = JSON.stringify(session.message('tools/call', { name: 'plain' }))
  for (const keys of ['"name":"hidden","name"', '"Name":"hidden","name"']) {
    const answer = await session.post(call.replace('"name"', keys))
    t.match([answer.status, answer.json()], [400, { error: { code: -32600 } }], answer.body)
  }
  await session.delete()
})

t.test('a call without an id reaches no tool that is hidden or needs the adapter', async (t) => {
  const session = await WireSession.open(url)
  for (const name of ['hidden', 'make', 's_get_upload_url']) {
    const answer = await session.post({ jsonrpc: '2.0', method: 'tools/call', params: { name } })
    t.equal(answer.status, 202, name)
    t.equal(answer.body, '')
  }
  await session.post({ jsonrpc: '2.0', method: 'tools/call', params: { name: 'plain-unasked' } })
  const calls = upstream.requests('tools/call').map((request) => JSON.stringify(request.json))
  t.ok(calls.some((call) => call.includes('plain-unasked')))
  t.notOk(calls.some((call) => !call.includes('"id"') && !call.includes('plain-unasked')))
  await session.delete()
})

t.test(
  'listings are completed in JSON and in event streams, and hide what is disabled',
  async (t) => {
    const session = await WireSession.open(url)
    const tools = [{ name: 'a', 'x-kept': 1, inputSchema: { type: 'object' } }, { name: 'hidden' }]
    const check = (result: unknown): void => {
      const { tools: listed, ...rest } = result as { tools: { name: string }[] } // checked next
      t.same(
        listed.map(({ name }) => name),
        ['a', 's_get_upload_url'],
      )
      t.match(listed[0], { 'x-kept': 1 })
      t.same(rest, { 'x-more': 2 })
    }
    upstream.scripts.set('tools/list', (request) => sendResult(request, { tools, 'x-more': 2 }))
    check((await session.request('tools/list')).json().result)
    upstream.scripts.set('tools/list', (request, response) => {
      beginStream(response)
      response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { tools, 'x-more': 2 } }))
    })
    check(messagesIn((await session.request('tools/list')).body)[0]?.result)
    const resources = (await session.request('resources/list')).json()
    t.match(resources.result, { resources: [] }, 'the upstream has none, the adapter has')
    t.equal(upstream.requests('resources/list').length, 0)
    await session.delete()
  },
)

t.test('a listing that comes again is the same for everybody, but for its id', async (t) => {
  const sessions = [await WireSession.open(url), await WireSession.open(url)]
  const pages = new Map([
    [undefined, { tools: [{ name: 'a', _meta: { page: 1 } }], nextCursor: 'two' }],
    ['two', { tools: [{ name: 'hidden' }, { name: 'b' }], _meta: { last: true } }],
  ])
  const expected = new Map<string | undefined, readonly string[]>([
    [undefined, ['a']],
    ['two', ['b', 's_get_upload_url']],
  ])
  for (const isStream of [false, true, false]) {
    upstream.scripts.set('tools/list', (request, response) => {
      const { params } = request.json as { params?: { cursor?: string } } // `tools/list`
      const result = pages.get(params?.cursor)
      if (!isStream) {
        sendResult(request, result)
        return
      }
      beginStream(response)
      response.end(event({ jsonrpc: '2.0', id: idOf(request), result }))
    })
    for (const id of [71, 'b"c', 72, 'ü', 71]) {
      for (const [cursor, names] of expected) {
        const message = { jsonrpc: '2.0', id, method: 'tools/list', params: { cursor } }
        for (const session of sessions) {
          const answer = await session.post(message)
          const [listed] = isStream ? messagesIn(answer.body) : [answer.json()]
          const result = listed?.result ?? {}
          // Checked next. That the first page becomes another one is told: see hostile-catalogue.
          const { tools, _meta, ...others } = result as {
            tools?: { name: string }[]
            _meta?: object
          }
          const { 'remote-mcp-adapter/tool-drift': drift, ...meta }: Record<string, unknown> = {
            ..._meta,
          }
          const rest = Object.keys(meta).length === 0 ? others : { ...others, _meta: meta }
          t.equal(drift !== undefined, names[0] === 'changed')
          t.equal(listed?.id, id)
          t.same(
            tools?.map(({ name }) => name),
            names,
          )
          const page = pages.get(cursor)
          t.same({ ...rest, tools: page?.tools }, page, 'the rest is the upstream’s')
        }
      }
    }
    pages.set(undefined, { tools: [{ name: 'changed', _meta: { page: 1 } }], nextCursor: 'two' })
    expected.set(undefined, ['changed'])
  }
  await Promise.all(sessions.map((session) => session.delete()))
})

t.test('what can not be read is an error, not a hang, and frees what it held', async (t) => {
  const session = await WireSession.open(url)
  const listed = async (script: (request: ReceivedRequest, response: ServerResponse) => void) => {
    upstream.scripts.set('tools/list', script)
    const message = session.message('tools/list')
    return { message, stream: await session.stream(message) }
  }
  // More often than there are slots: each must give its own back.
  for (let n = 0; n < 3; n++) {
    const bodies = [
      '{"jsonrpc":"2.0","id":',
      '<html>',
      gzipSync('{}'),
      Buffer.from([0xff, 0xfe]),
      '',
    ]
    for (const body of bodies) {
      const { message, stream } = await listed((_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(body)
      })
      await stream.ended
      t.equal(stream.status, 502)
      t.match(JSON.parse(stream.text()), { id: message.id, error: { code: 1502, message: /JSON/ } })
    }

    const giant = await listed((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.write(Buffer.alloc(3 * 1024 * 1024, ' '))
    })
    await giant.stream.ended
    t.equal(giant.stream.status, 502)
    t.match(JSON.parse(giant.stream.text()), {
      id: giant.message.id,
      error: { message: /max_response_message_bytes/ },
    })

    const event = await listed((_request, response) => {
      beginStream(response)
      response.write(Buffer.alloc(3 * 1024 * 1024, 'data: x\n'))
    })
    t.equal(await within('the end', event.stream.ended), 'end')
    t.match(messagesIn(event.stream.text()), [
      { id: event.message.id, error: { code: 1502, message: /larger/ } },
    ])
    await eventually('the upstream is cut', () =>
      upstream
        .requests('tools/list')
        .slice(-2)
        .every(({ isCut }) => isCut),
    )

    const cut = await listed((_request, response) => {
      beginStream(response)
      response.write(': on\n\ndata: {"jsonrpc"', () => response.destroy())
    })
    t.equal(await cut.stream.ended, 'end')
    t.match(messagesIn(cut.stream.text()), [{ id: cut.message.id, error: { code: 1502 } }])
  }
  const other = await listed((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('what is this')
  })
  await other.stream.ended
  t.match(
    JSON.parse(other.stream.text()),
    { id: other.message.id, error: { code: 1502 } },
    'another content type can not be looked at',
  )
  t.equal((await session.request('ping')).status, 200)
  await session.delete()
})

t.test('a wrapped call that fails on the way gives back what was set aside', async (t) => {
  const session = await WireSession.open(url)
  const before = (await session.request('resources/list')).json().result
  for (let n = 0; n < 6; n++) {
    upstream.scripts.set('tools/call make', (_request, response) => {
      if (n % 2 === 0) response.destroy()
      else response.writeHead(500).end('broken')
    })
    const failed = await session.call('make', { path: 'x' })
    t.equal(failed.status, n % 2 === 0 ? 502 : 500)
  }
  t.same((await session.request('resources/list')).json().result, before)
  upstream.scripts.set('tools/call make', async (request) =>
    sendResult(request, await make(request.json)),
  )
  const made = await session.call('make', { path: 'x' })
  await expectArtifact(session, made.json())
  await session.delete()
})
