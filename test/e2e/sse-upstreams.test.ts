/** Upstreams of the HTTP+SSE transport of 2024-11-05: what a client of today does with one, and what they may do wrong. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CallToolResultSchema,
  ElicitRequestSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import t, { type Test } from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { connectLegacy } from '../support/legacy-client.ts'
import { startReplica } from '../support/replica.ts'
import { beginSse, startScriptedSse } from '../support/upstreams/scripted-sse.ts'
import type { SseScripts } from '../support/upstreams/scripted-sse.ts'
import { startSseFileServer } from '../support/upstreams/sse-file-server.ts'
import { answerIn, initialize, WireSession } from '../support/wire.ts'
import type { WireAnswer } from '../support/wire.ts'

const workspace = await mkdtemp(join(tmpdir(), 'adapter-sse-'))
const upstream = await startSseFileServer({ workspace })
const scripted = await startScriptedSse()
const replica = await startReplica({
  config: {
    core: { workers: 1, allow_artifacts_download: true, max_response_message_bytes: '1Mi' },
    servers: [
      {
        id: 'files',
        mount_path: '/mcp/files',
        upstream: {
          transport: 'sse',
          url: upstream.url,
          workspace_root: workspace,
          static_headers: { 'X-Static': 'operator' },
          client_headers: { passthrough: ['X-Passed'] },
        },
        adapters: [
          { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
          {
            type: 'artifact_producer',
            tools: ['write_report'],
            output_path_argument: 'filename',
            output_locator: { mode: 'regex' },
          },
        ],
      },
      {
        id: 'scripted',
        mount_path: '/mcp/scripted',
        upstream: { transport: 'sse', url: scripted.url, connect_timeout_seconds: 1 },
        // It fails many times in a row here.
        upstream_ping: { enabled: false },
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await Promise.all([upstream.stop(), scripted.stop()])
  await rm(workspace, { recursive: true, force: true })
})

const FILES = `${replica.url}/mcp/files`
const SCRIPTED = `${replica.url}/mcp/scripted`

async function connect(): Promise<Client> {
  const client = new Client({ name: 'e2e', version: '1' }, { capabilities: { elicitation: {} } })
  await client.connect(new StreamableHTTPClientTransport(new URL(FILES)))
  return client
}

async function call(
  client: Client,
  name: string,
  args: Record<string, unknown> = {},
  options: object = {},
): Promise<CallToolResult> {
  return CallToolResultSchema.parse(
    await client.callTool({ name, arguments: args }, undefined, options),
  )
}

function textOf({ content }: CallToolResult): string {
  const [block] = content
  return block?.type === 'text' ? block.text : ''
}

function textIn(answer: WireAnswer): string {
  return textOf(CallToolResultSchema.parse(answerIn(answer).result))
}

/** Everything that a client does; `client` has the capability of elicitation. */
async function walk(t: Test, client: Client): Promise<void> {
  t.equal(client.getServerVersion()?.name, 'file-server')
  t.ok((await client.listTools()).tools.some(({ name }) => name === 'files_get_upload_url'))

  const steps: number[] = []
  const onprogress = ({ progress }: { progress: number }): void => void steps.push(progress)
  t.equal(textOf(await call(client, 'slow', { ms: 100 }, { onprogress })), 'Waited for 100 ms')
  t.same(steps.slice(0, 3), [1, 2, 3])

  client.setRequestHandler(ElicitRequestSchema, () => ({
    action: 'accept' as const,
    content: { name: 'Zoë' },
  }))
  t.equal(textOf(await call(client, 'ask')), 'Hello Zoë')

  const known = upstream.waits.length
  const abort = new AbortController()
  const waiting = call(client, 'wait', {}, { signal: abort.signal })
  waiting.catch(() => undefined)
  await eventually('the tool waits', () => upstream.waits.length === known + 1)
  abort.abort()
  await t.rejects(waiting)
  await eventually('it is cancelled', () => upstream.waits.at(-1) === 'cancelled')

  const bytes = Buffer.from('grüße\n'.repeat(1_000))
  const helper = await call(client, 'files_get_upload_url')
  const form = new FormData()
  form.append('file', new Blob([bytes]), 'größe.txt')
  const uploaded = await fetch(String(helper.structuredContent?.['upload_url']), {
    method: 'POST',
    body: form,
  })
  const { upload_handle: handle } = (await uploaded.json()) as { upload_handle: string } // as documented
  t.match(JSON.parse(textOf(await call(client, 'read_file', { path: handle }))), {
    size: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })

  const report = await call(client, 'write_report', { filename: 'r.txt', content: 'made' })
  const artifact = report['_meta']?.['artifact'] as { download_url: string } // as documented
  t.equal(await (await fetch(artifact.download_url)).text(), 'made')
}

t.test('a client does everything with an upstream of the older transport', async (t) => {
  const client = await connect()
  await walk(t, client)
  await client.close()
})

t.test('and so does a client of the older transport itself', async (t) => {
  const client = await connectLegacy(FILES, { capabilities: { elicitation: {} } })
  await walk(t, client)
  await client.close()
})

t.test('what belongs to no call reaches the client, after a reconnect too', async (t) => {
  const client = await connect()
  let changes = 0
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => void changes++)
  await call(client, 'grow')
  await eventually('the change is told', () => changes > 0)
  const { sessionId = '' } = client.transport as StreamableHTTPClientTransport // what `connect` made
  await client.close()
  const back = new WireSession(FILES, sessionId, '2025-06-18')
  const stream = await back.get()
  t.equal(stream.status, 200)
  t.equal(textIn(await back.call('grown')), 'grown', 'the same upstream session')
  stream.close()
  await back.delete()
})

t.test(
  'a session has its own stream, which ends with it; headers go with each message',
  async (t) => {
    await eventually('legacy clients and others are gone', async () => {
      await Promise.resolve()
      return upstream.sessions() <= 1
    })
    const before = upstream.sessions()
    const one = await WireSession.open(FILES)
    const other = await WireSession.open(FILES)
    t.equal(upstream.sessions(), before + 2)
    await one.post(one.message('ping'), { 'x-passed': 'by the client' })
    t.match(upstream.posted.at(-1), {
      'x-static': 'operator',
      'x-passed': 'by the client',
      'content-type': 'application/json',
    })
    t.notOk('mcp-session-id' in (upstream.posted.at(-1) ?? {}))
    await one.delete()
    await eventually('its stream is closed', () => upstream.sessions() === before + 1)
    await other.delete()
    await eventually('so is the other', () => upstream.sessions() === before)
  },
)

t.test(
  'a stream that ends during a call is told, and the session goes on with another',
  async (t) => {
    const session = await WireSession.open(FILES)
    const known = upstream.waits.length
    const waiting = session.call('wait')
    await eventually('the tool waits', () => upstream.waits.length > known)
    await upstream.dropStreams()
    const lost = answerIn(await within('an answer', waiting))
    t.match(lost.error, {
      code: 1502,
      message: /ended the event stream/,
      data: { code: 'ADAPTER_UPSTREAM_UNREACHABLE', retryable: true },
    })
    t.equal(textIn(await session.call('slow', { ms: 10 })), 'Waited for 10 ms')
    await session.delete()
  },
)

t.test('an upstream that is killed during a call is a 502 until it is there again', async (t) => {
  const mortal = await startSseFileServer({ workspace })
  const before = await startReplica({
    config: {
      core: { workers: 1 },
      servers: [{ id: 'm', mount_path: '/mcp/m', upstream: { transport: 'sse', url: mortal.url } }],
    },
  })
  t.teardown(() => before.stop())
  const session = await WireSession.open(`${before.url}/mcp/m`)
  const waiting = session.call('wait')
  await eventually('the tool waits', () => mortal.waits.length === 1)
  await mortal.stop()
  t.match(answerIn(await within('an answer', waiting)).error, { code: 1502 })
  const down = await within('an answer', session.call('slow', { ms: 10 }))
  t.equal(down.status, 502)
  t.equal((await initialize(`${before.url}/mcp/m`)).status, 502)
  const again = await startSseFileServer({ workspace, port: mortal.port })
  t.teardown(() => again.stop())
  t.equal(textIn(await session.call('slow', { ms: 10 })), 'Waited for 10 ms')
  await session.delete()
})

/** Answers `initialize` on the stream, and whatever else `scripts` does not answer. */
function serving(more: SseScripts = {}): SseScripts {
  return {
    stream: (response) =>
      response.write(beginSse(response, `/messages?n=${scripted.streams.length - 1}`)),
    post: (request, response) => {
      const { id, method } = JSON.parse(request.body) as { id?: number; method?: string } // a client's
      if (more.post !== undefined && method !== 'initialize' && id !== undefined) {
        more.post(request, response)
        return
      }
      response.writeHead(202).end()
      if (id === undefined) return
      const serverInfo = { name: 's', version: '1' }
      const result =
        method === 'initialize'
          ? { protocolVersion: '2024-11-05', capabilities: { tools: {} }, serverInfo }
          : { method }
      tell({ jsonrpc: '2.0', id, result }, Number(/\d+$/.exec(request.target)))
    },
  }
}

function tell(message: unknown, stream: number): void {
  scripted.streams[stream]?.response.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`)
}

function play(scripts: SseScripts): void {
  delete scripted.scripts.stream
  delete scripted.scripts.post
  Object.assign(scripted.scripts, scripts)
}

t.test('a message that the upstream does not take is the error of its request alone', async (t) => {
  play(serving())
  const session = await WireSession.open(SCRIPTED)
  for (const status of [404, 500]) {
    play(serving({ post: (_request, response) => response.writeHead(status).end() }))
    const answer = await session.request('tools/list')
    t.equal(answer.status, 502)
    t.match(answer.json().error?.message, new RegExp(`answered a message with status ${status}`))
  }
  play(serving())
  t.same(answerIn(await session.request('tools/list')).result, { method: 'tools/list' })
  t.equal(scripted.streams.length, 1, 'over the same stream')
  await session.delete()
})

t.test(
  'garbage between messages is passed over, and too large an event ends the session',
  async (t) => {
    play(serving())
    const session = await WireSession.open(SCRIPTED)
    const stream = scripted.streams.at(-1)
    stream?.response.write(
      '\0\0\n\nevent: message\ndata: {not json\n\nevent: ping\ndata: {}\n\ndata\n\n\r\r:x\n\n',
    )
    tell({ jsonrpc: '2.0', id: 'nobody asked', result: {} }, scripted.streams.length - 1)
    t.same(answerIn(await session.request('tools/list')).result, { method: 'tools/list' })
    stream?.response.write(`data: "${'x'.repeat(2_000_000)}"\n\n`)
    await eventually('the stream is cut', () => stream?.isClosed === true)
    t.same(answerIn(await session.request('tools/list')).result, { method: 'tools/list' })
    t.not(scripted.streams.at(-1), stream, 'over a new stream')
    await session.delete()
  },
)

t.test(
  'an upstream that does not open a stream as it should is an error within its bound',
  async (t) => {
    const cases: readonly (readonly [string, NonNullable<SseScripts['stream']>, number, RegExp])[] =
      [
        [
          'foreign',
          (response) => response.write(beginSse(response, 'http://elsewhere.invalid/x')),
          502,
          /another origin/,
        ],
        ['404', (response) => response.writeHead(404).end(), 502, /status 404/],
        ['500', (response) => response.writeHead(500).end(), 502, /status 500/],
        ['json', (response) => response.end('{}'), 502, /is its transport sse/],
        ['closes', (response) => response.destroy(), 502, /can not be reached/],
        [
          'never',
          (response) =>
            response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders(),
          504,
          /within 16 s/,
        ],
      ]
    for (const [what, stream, status, message] of cases) {
      play({ ...serving(), stream })
      const answer = await within(what, initialize(SCRIPTED), 20_000)
      t.equal(answer.status, status, what)
      t.match(answer.json().error?.message, message)
      t.notMatch(answer.body, /elsewhere/, 'what an upstream says is for the log')
    }
    await eventually('no stream is left', () => scripted.streams.every(({ isClosed }) => isClosed))
  },
)

t.test('sessions that come and go leave nothing behind', async (t) => {
  play(serving())
  for (let round = 0; round < 10; round++) {
    const sessions = await Promise.all(Array.from({ length: 20 }, () => WireSession.open(SCRIPTED)))
    await Promise.all(sessions.map((session) => session.delete()))
  }
  await eventually('no stream is left', () => scripted.streams.every(({ isClosed }) => isClosed))
  await eventually('nor any connection', async () => (await scripted.connections()) === 0)
  t.equal((await WireSession.open(SCRIPTED)).version, '2025-06-18', 'and another can be opened')
})
