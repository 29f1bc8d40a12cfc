/** What a lost state database costs: files and sessions are found again on disk, and go on with a new upstream session. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startReplica } from '../support/replica.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'

const directory = await mkdtemp(join(tmpdir(), 'adapter-adoption-'))
const upstream = await startFileServer({ workspace: directory })
t.teardown(async () => {
  await upstream.stop()
  await rm(directory, { recursive: true, force: true })
})

const servers = [
  {
    id: 'files',
    mount_path: '/mcp/files',
    upstream: { url: upstream.url },
    adapters: [{ type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' }],
  },
]

let nextId = 1

async function post(url: string, session: string | undefined, method: string, params: object) {
  const response = await fetch(`${url}/mcp/files`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...(session === undefined ? {} : { 'mcp-session-id': session }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: nextId++, method, params }),
  })
  const text = await response.text()
  return { status: response.status, text, session: response.headers.get('mcp-session-id') ?? '' }
}

t.test('after the state database is lost a session still resolves its upload', async (t) => {
  const first = await startReplica({ directory, config: { servers } })
  const { session } = await post(first.url, undefined, 'initialize', {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  })
  const helper = await post(first.url, session, 'tools/call', { name: 'files_get_upload_url' })
  const uploadUrl = /"upload_url":"([^"]+)"/.exec(helper.text)?.[1] ?? ''
  const form = new FormData()
  form.append('file', new Blob(['kept']), 'kept.txt')
  const uploaded = await (await fetch(uploadUrl, { method: 'POST', body: form })).text()
  const handle = /"upload_handle":"([^"]+)"/.exec(uploaded)?.[1] ?? ''
  t.equal(await first.stop(), 0)

  await rm(join(first.root, 'state'), { recursive: true })
  const second = await startReplica({ directory, config: { servers } })
  t.teardown(() => second.stop())
  const calls = await Promise.all(
    Array.from({ length: 5 }, () =>
      post(second.url, session, 'tools/call', { name: 'read_file', arguments: { path: handle } }),
    ),
  )
  for (const call of calls) t.match(call, { status: 200, text: /size[^0-9]+4\b/ }, call.text)
  t.equal(upstream.sessions(), 2, 'one new upstream session for all of them')
})

t.test('with refresh_on_startup nothing is found again', async (t) => {
  const before = await startReplica({ directory, config: { servers } })
  await before.stop()
  const replica = await startReplica({
    directory,
    config: { servers, state_persistence: { refresh_on_startup: true } },
  })
  t.teardown(() => replica.stop())
  const health = await (await fetch(`${replica.url}/healthz`)).json()
  t.match(health, { persistence: { state_inventory: { sessions_count: 0, uploads_count: 0 } } })
})
