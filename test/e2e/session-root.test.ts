/** Upstreams that have the session's directory for their root: the adapter answers `roots/list`, and files that appear there become artifacts. */
import { access, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CallToolResultSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { startRootsServer } from '../support/upstreams/roots-server.ts'
import { answerIn, messagesIn, WireSession } from '../support/wire.ts'

t.setTimeout(180_000)

const upstream = await startRootsServer()
const postOnly = await startRootsServer({ serves: 'post' })
const outside = await mkdtemp(join(tmpdir(), 'adapter-outside-'))
await writeFile(join(outside, 'secret.txt'), 'not yours')
// Another path to the same files, as where the upstream mounts them elsewhere.
const base = await mkdtemp(join(tmpdir(), 'adapter-rooted-'))
await mkdir(join(base, 'data', 'sessions'), { recursive: true })
await symlink(join(base, 'data', 'sessions'), join(base, 'of upstream'))
const watched = {
  type: 'artifact_producer',
  tools: ['write', 'ruin', 'flood'],
  output_locator: { mode: 'directory' },
}
const rooted = { session_root: { enabled: true } }
const replica = await startReplica({
  config: {
    storage: { root: join(base, 'data') },
    core: {
      allow_artifacts_download: true,
      workers: 2,
      defaults: { tool_call_timeout_seconds: 30 },
    },
    servers: [
      {
        id: 'rooted',
        mount_path: '/mcp/rooted',
        upstream: { url: upstream.url, ...rooted },
        adapters: [watched],
      },
      {
        id: 'post-only',
        mount_path: '/mcp/post-only',
        upstream: { url: postOnly.url, ...rooted },
      },
      {
        id: 'narrow',
        mount_path: '/mcp/narrow',
        upstream: { url: upstream.url, ...rooted, max_in_flight: 1 },
      },
      {
        id: 'texts',
        mount_path: '/mcp/texts',
        upstream: { url: upstream.url, ...rooted },
        adapters: [
          {
            ...watched,
            output_locator: { mode: 'directory', output_path_regexes: [String.raw`\.txt$`] },
          },
        ],
      },
      {
        id: 'named',
        mount_path: '/mcp/named',
        upstream: { url: upstream.url, ...rooted, workspace_root: outside },
        adapters: [
          { type: 'artifact_producer', tools: ['write'], output_locator: { mode: 'regex' } },
        ],
      },
      {
        id: 'elsewhere',
        mount_path: '/mcp/elsewhere',
        upstream: {
          url: upstream.url,
          session_root: { enabled: true, sessions_path: `${join(base, 'of upstream')}/` },
        },
        adapters: [
          { type: 'upload_consumer', tools: ['read'], file_path_argument: 'path' },
          {
            type: 'artifact_producer',
            tools: ['write_at'],
            output_path_argument: 'path',
          },
          { type: 'artifact_producer', tools: ['write'], output_locator: { mode: 'regex' } },
        ],
      },
    ],
  },
})
t.teardown(async () => {
  if (!t.passing()) t.comment(replica.logs())
  await replica.stop()
  await Promise.all([upstream.stop(), postOnly.stop()])
  await Promise.all([outside, base].map((path) => rm(path, { recursive: true, force: true })))
})

function directoryOf(server: string, sessionId: string): string {
  return join(base, 'data', 'sessions', server, sessionId)
}

function open(server = 'rooted'): Promise<WireSession> {
  return WireSession.open(`${replica.url}/mcp/${server}`)
}

/** Of a call: what it said, and its artifacts. */
async function call(session: WireSession, name: string, args: Record<string, unknown> = {}) {
  const { result = {}, error } = answerIn(await session.call(name, args))
  if (error !== undefined) throw new Error(error.message)
  const { content, isError, _meta: meta = {} } = CallToolResultSchema.parse(result)
  const one = meta['artifact']
  // What the adapter documents for `_meta`.
  const artifacts = (meta['artifacts'] ?? (one === undefined ? [] : [one])) as {
    readonly filename: string
    readonly artifact_uri: string
    readonly download_url: string
  }[]
  const text = content.map((block) => (block.type === 'text' ? block.text : '')).join('\n')
  const links = content.filter(({ type }) => type === 'resource_link').length
  return { text, links, artifacts, isError: isError === true }
}

async function download(artifact: { readonly download_url: string }): Promise<string> {
  return (await fetch(artifact.download_url)).text()
}

t.test("an upstream gets the session's directory for its root, however it asks", async (t) => {
  for (const [server, tools] of [
    ['rooted', ['where_by_stream', 'where_by_call']],
    ['post-only', ['where_by_call']],
    // The call that waits for the root takes the only place.
    ['narrow', ['where_by_stream', 'where_by_call']],
  ] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const session = await open(server)
    const uri = pathToFileURL(directoryOf(server, session.id)).href
    for (const tool of tools) {
      // oxlint-disable-next-line no-await-in-loop -- one case after the other
      const { text } = await call(session, tool)
      t.same(JSON.parse(text), [{ uri, name: 'session' }], `${tool} of ${server}`)
    }
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    await t.resolves(access(directoryOf(server, session.id)), 'and it is there')
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    await session.delete()
  }
})

t.test(
  'a first call that comes with no wait for anything has a stream to be asked on',
  async (t) => {
    const session = new WireSession(
      `${replica.url}/mcp/rooted`,
      (await WireSession.open(`${replica.url}/mcp/rooted`)).id,
      '2025-06-18',
    )
    const before = upstream.streams
    t.ok(before > 0, 'the stream stood when `initialized` was answered')
    const answers = await Promise.all([1, 2, 3].map(() => call(session, 'where_by_stream')))
    t.equal(new Set(answers.map(({ text }) => text)).size, 1)
    t.equal(upstream.streams, before, 'and it is one')
  },
)

t.test('roots of a client stay with it, and what else it can do does not', async (t) => {
  const asked: string[] = []
  const client = new Client(
    { name: 'with-roots', version: '1' },
    { capabilities: { roots: { listChanged: true }, elicitation: {} } },
  )
  client.setRequestHandler(ListRootsRequestSchema, () => {
    asked.push('roots')
    return { roots: [{ uri: pathToFileURL(outside).href }] }
  })
  client.setRequestHandler(ElicitRequestSchema, () => {
    asked.push('name')
    return { action: 'accept', content: { name: 'Ada' } }
  })
  const transport = new StreamableHTTPClientTransport(new URL(`${replica.url}/mcp/rooted`))
  await client.connect(transport)
  t.teardown(() => client.close())
  const declared = upstream.capabilities.at(-1)
  t.match(declared, { roots: {}, elicitation: {} })
  t.notMatch(declared, { roots: { listChanged: true } })
  await client.sendRootsListChanged()
  for (const tool of ['where_by_stream', 'where_by_call']) {
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const where = JSON.stringify(await client.callTool({ name: tool, arguments: {} }))
    t.match(where, transport.sessionId ?? '?', 'the session is the root')
    t.notMatch(where, outside)
  }
  const answer = await client.callTool({ name: 'ask', arguments: {} })
  t.match(JSON.stringify(answer), 'Ada', 'the upstream gets the answer under its own id')
  t.same(asked, ['name'], 'the client was asked for nothing else')
  t.equal(upstream.changes, 0, 'and of its changes nobody was told')
})

t.test('a client can not answer what it was not asked', async (t) => {
  const session = await open()
  const before = await call(session, 'where_by_stream')
  const forged = { roots: [{ uri: 'file:///etc' }] }
  const calling = Promise.all([1, 2, 3].map(() => session.call('where_by_stream')))
  for (let id = 0; id < 60; id++) {
    // oxlint-disable-next-line no-await-in-loop -- each is tried
    const answers = await Promise.all([
      session.post({ jsonrpc: '2.0', id, result: forged }),
      session.post({ jsonrpc: '2.0', id, error: { code: -1, message: 'no' } }),
    ])
    t.ok(
      answers.every(({ status }) => status === 202),
      'taken, and dropped',
    )
  }
  for (const answer of await calling)
    t.equal(JSON.stringify(answerIn(answer)).includes('/etc'), false)
  t.same(await call(session, 'where_by_stream'), before)

  const asking = await session.stream(session.message('tools/call', { name: 'ask', arguments: {} }))
  await asking.until('elicitation/create')
  const id = String(messagesIn(asking.text()).find(({ method }) => method !== undefined)?.id)
  const stranger = await open()
  const content = { name: 'Eve' }
  await stranger.post({ jsonrpc: '2.0', id, result: { action: 'accept', content } })
  const forgedId = id.replace(/[0-9a-f]{8}/, '00000000')
  await session.post({ jsonrpc: '2.0', id: forgedId, result: { action: 'accept', content } })
  await session.post({ jsonrpc: '2.0', id, result: { action: 'decline' } })
  await asking.until('"result"')
  t.match(asking.text(), 'decline')
  t.notMatch(asking.text(), 'Eve')
})

t.test(
  'files that a call leaves in the directory become artifacts, whatever it says',
  async (t) => {
    const session = await open()
    const first = await call(session, 'write', {
      files: { 'a.txt': 'one', '.playwright-mcp/page.png': 'two', 'sub/deep/ü b.md': 'three' },
      says: 'nothing of it',
    })
    t.equal(first.isError, false)
    const made = await Promise.all(
      first.artifacts.map(async (artifact) => [artifact.filename, await download(artifact)]),
    )
    t.same(
      new Map(made as [string, string][]),
      new Map([
        ['a.txt', 'one'],
        ['page.png', 'two'],
        ['ü b.md', 'three'],
      ]),
    )
    t.equal(first.links, 3)

    const second = await call(session, 'write', { files: { 'a.txt': 'one again' } })
    t.same(
      second.artifacts.map(({ filename }) => filename),
      ['a.txt'],
      'only what changed',
    )
    const [changed] = second.artifacts
    t.equal(changed && (await download(changed)), 'one again')
    const before = first.artifacts.find(({ filename }) => filename === 'a.txt')
    t.equal(before && (await download(before)), 'one', 'and what was kept stays as it was')

    const none = await call(session, 'write', { files: {} })
    t.same(none, { text: 'written', links: 0, artifacts: [], isError: false }, 'none is no failure')
    const failed = await call(session, 'write', { files: { 'b.txt': 'b' }, fails: true })
    t.equal(failed.artifacts.length, 0, 'a call that failed made nothing')

    await session.delete()
    await eventually('the directory goes with the session', async () =>
      access(directoryOf('rooted', session.id)).then(
        () => false,
        () => true,
      ),
    )
  },
)

t.test('patterns say which files are kept', async (t) => {
  const session = await open('texts')
  const files = { 'console.log': 'noise', 'sub/a.txt': 'kept' }
  const { artifacts, isError } = await call(session, 'write', { files })
  t.same(
    artifacts.map(({ filename }) => filename),
    ['a.txt'],
  )
  t.equal(isError, false)
})

t.test(
  'of calls at the same time each gets what its result names, the last what is left',
  async (t) => {
    const session = await open()
    const slow = call(session, 'write', {
      files: { 'slow.txt': 's', 'unnamed.txt': 'u' },
      says: 'Saved as [slow](./slow.txt)',
      then_waits_for: 'slow may end',
    })
    await eventually('its files are there', async () =>
      readFile(join(directoryOf('rooted', session.id), 'unnamed.txt')).then(
        () => true,
        () => false,
      ),
    )
    const early = call(session, 'write', {
      files: { 'quick.txt': 'q' },
      says: 'Saved quick.txt to `quick.txt`',
      then_waits_for: 'quick may end',
    })
    await eventually('its file is there', async () =>
      readFile(join(directoryOf('rooted', session.id), 'quick.txt')).then(
        () => true,
        () => false,
      ),
    )
    upstream.release('quick may end')
    const quick = await early
    t.same(
      quick.artifacts.map(({ filename }) => filename),
      ['quick.txt'],
    )
    upstream.release('slow may end')
    t.same((await slow).artifacts.map(({ filename }) => filename).toSorted(), [
      'slow.txt',
      'unnamed.txt',
    ])
  },
)

t.test('relative paths in results start in the directory, before the workspace', async (t) => {
  const session = await open('named')
  await writeFile(join(outside, 'x.txt'), 'of the workspace')
  const { artifacts } = await call(session, 'write', {
    files: { 'x.txt': 'of the session' },
    says: 'Saved: [file](./x.txt)',
  })
  const [artifact] = artifacts
  t.equal(artifact && (await download(artifact)), 'of the session')
})

t.test('links, pipes, huge, half, hidden and oddly named files do no harm', async (t) => {
  const session = await open()
  const { artifacts, text, isError } = await within(
    'the call ends',
    call(session, 'ruin', { target: join(outside, 'secret.txt') }),
  )
  t.equal(isError, false)
  t.equal(artifacts.length, 1, JSON.stringify(artifacts))
  const [odd] = artifacts
  t.match(odd?.filename, /^a.?b\.txt$/, 'without what is not to be seen')
  t.equal(odd && (await download(odd)), 'odd')
  t.match(text, "1 more of the tool's files could not be kept", 'the huge one')
  await session.delete()
  t.equal(await readFile(join(outside, 'secret.txt'), 'utf8'), 'not yours', 'no link was followed')
})

t.test('thousands of files end in a limit, and the session goes on', async (t) => {
  const session = await open()
  const some = await call(session, 'flood', { count: 100 })
  t.equal(some.artifacts.length, 32)
  t.match(some.text, "68 more of the tool's files could not be kept")
  const many = await call(session, 'flood', { count: 6_000 })
  t.equal(many.isError, true)
  t.match(many.text, 'holds more than 4096 files')
  const after = await call(session, 'write', { files: { 'after.txt': 'x' } })
  t.equal(after.isError, true, 'new files can not be told any more')
  t.match(after.text, 'Start a new session')
  t.match((await call(session, 'where_by_stream')).text, session.id, 'other tools work')
  await session.delete()
})

t.test('an upstream that lost its session is told the root again', async (t) => {
  const session = await open()
  const first = await call(session, 'where_by_stream')
  await upstream.drop()
  t.same(await call(session, 'where_by_stream'), first)
  const client = await session.get()
  await upstream.drop()
  t.same(await call(session, 'where_by_stream'), first, 'also while a client reads the stream')
  client.close()
})

t.test('an upstream that has the directory elsewhere is told its own paths', async (t) => {
  const session = await open('elsewhere')
  const there = join(base, 'of upstream', 'elsewhere', session.id)
  t.match((await call(session, 'where_by_stream')).text, pathToFileURL(there).href)
  const helper = await session.call('elsewhere_get_upload_url')
  const url = answerIn(helper).result?.['structuredContent'] as { upload_url: string } // documented
  const form = new FormData()
  form.append('file', new Blob(['from the client']), 'in.txt')
  const uploaded = await fetch(url.upload_url, { method: 'POST', body: form })
  const { upload_handle: handle } = (await uploaded.json()) as { upload_handle: string } // documented
  const read = await call(session, 'read', { path: handle })
  t.match(read.text, `${there}/uploads/`, 'the path of an upload')
  t.match(read.text, 'from the client')
  const written = await call(session, 'write_at', { path: 'out.txt', text: 'to the client' })
  t.match(written.text, `${there}/artifacts/`, 'the path to write to')
  const [made] = written.artifacts
  t.equal(made && (await download(made)), 'to the client')
  const named = await call(session, 'write', {
    files: { 'n.txt': 'named' },
    says: `Saved to: ${there}/n.txt`,
  })
  const [found] = named.artifacts
  t.equal(found && (await download(found)), 'named', 'a path in a result')
})
