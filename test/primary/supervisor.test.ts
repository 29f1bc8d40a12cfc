/** What happens when a thread dies: a clean error for what it had in hand, a new thread, and everything goes on. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BroadcastChannel } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { stringify } from 'yaml'

import { Listener } from '../../src/primary/listener/server.ts'
import { loadNative } from '../../src/primary/listener/native.ts'
import { Supervisor, type SupervisorOptions } from '../../src/primary/supervisor.ts'
import { loadConfig } from '../../src/shared/config/load.ts'
import { ownerOf } from '../../src/shared/ids.ts'
import { openLog } from '../../src/shared/log.ts'
import { Redactor } from '../../src/shared/redaction.ts'
import { localStoreOptions } from '../../src/shared/state/local-options.ts'
import { eventually, within } from '../support/eventually.ts'
import { INITIALIZE, MCP_HEADERS } from '../support/file-rig.ts'
import { HOST, pathOf, RawConnection } from '../support/raw-http.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'

t.setTimeout(600_000)

const WORKERS = 2
const CRASHING = {
  worker: new URL('./crashing-worker.js', import.meta.url),
  state: new URL('./crashing-state.js', import.meta.url),
}
const directory = await mkdtemp(join(tmpdir(), 'adapter-supervisor-'))
const upstream = await startFileServer({ workspace: directory, jsonResponse: true })
const crash = new BroadcastChannel('crash')
t.teardown(async () => {
  crash.close()
  await upstream.stop()
  await rm(directory, { recursive: true, force: true })
})

interface Replica {
  readonly url: string
  readonly port: number
  readonly supervisor: Supervisor
  stop(): Promise<void>
}

let started = 0

async function optionsFor(
  threads: NonNullable<SupervisorOptions['threads']>,
): Promise<SupervisorOptions> {
  const root = join(directory, `data-${started++}`)
  const path = join(directory, `config-${started}.yaml`)
  const adapters = [{ type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' }]
  const server = {
    id: 'files',
    mount_path: '/mcp/files',
    upstream: { url: upstream.url },
    adapters,
  }
  await writeFile(
    path,
    stringify({ core: { host: '127.0.0.1' }, storage: { root }, servers: [server] }),
  )
  const { config } = loadConfig({ path, env: {} })
  return {
    config,
    state: localStoreOptions(config),
    workers: WORKERS,
    signingSecrets: ['secret'],
    fallbackBaseUrl: 'http://127.0.0.1',
    log: openLog('critical', 'primary', new Redactor({ values: [] })),
    threads,
  }
}

async function start(): Promise<Replica> {
  const options = await optionsFor(CRASHING)
  const supervisor = new Supervisor(options)
  await supervisor.start()
  const listener = new Listener(loadNative(), options.config, null, {
    workerFor: (sessionId) => supervisor.workerFor(sessionId),
    health: () => Promise.resolve({ status: 200, body: '{}' }),
    keysFailed: () => {},
  })
  const port = await listener.listen('127.0.0.1', 0)
  return {
    url: `http://127.0.0.1:${port}/mcp/files`,
    port,
    supervisor,
    stop: async () => {
      await supervisor.stopWorkers(1_000)
      await supervisor.stopState()
      listener.close()
    },
  }
}

async function post(
  replica: Replica,
  body: string,
  session?: string,
): Promise<{ status: number; text: string; session: string }> {
  const headers =
    session === undefined ? MCP_HEADERS : { ...MCP_HEADERS, 'mcp-session-id': session }
  const response = await fetch(replica.url, { method: 'POST', headers, body })
  return {
    status: response.status,
    text: await response.text(),
    session: response.headers.get('mcp-session-id') ?? '',
  }
}

let nextId = 1
function call(
  replica: Replica,
  session: string,
  name: string,
  args: object = {},
): ReturnType<typeof post> {
  return post(
    replica,
    JSON.stringify({
      jsonrpc: '2.0',
      id: nextId++,
      method: 'tools/call',
      params: { name, arguments: args },
    }),
    session,
  )
}

/** One session for each worker. */
async function sessionsOfAll(replica: Replica): Promise<string[]> {
  const sessions: string[] = []
  await eventually('every worker has a session', async () => {
    const { session } = await post(replica, INITIALIZE)
    sessions[ownerOf(session, WORKERS)] = session
    return Array.from({ length: WORKERS }, (_, index) => sessions[index]).every(Boolean)
  })
  return sessions
}

async function upload(t: Test, replica: Replica, session: string): Promise<string> {
  const text = (await call(replica, session, 'files_get_upload_url')).text
  const url = /"upload_url":"([^"]+)"/.exec(text)?.[1] ?? ''
  const answer = await fetch(url, { method: 'PUT', body: 'content' })
  t.equal(answer.status, 200)
  return ((await answer.json()) as { upload_handle: string }).upload_handle // the endpoint's answer
}

t.test(
  'a worker dies: its calls get an error, the calls of others their answer; it is started again and its sessions go on',
  async (t) => {
    const replica = await start()
    const [dying = '', other = ''] = await sessionsOfAll(replica)
    const handle = await upload(t, replica, dying)
    const before = upstream.calls.length
    const inFlight = [dying, dying, other].map((session) =>
      call(replica, session, 'slow', { ms: 1_500 }),
    )
    await eventually('the calls are under way', () => upstream.calls.length === before + 3)
    const stream = new RawConnection(replica.port)
    stream.send(
      `GET /mcp/files HTTP/1.1\r\n${HOST}Accept: text/event-stream\r\nMcp-Session-Id: ${dying}\r\n\r\n`,
    )
    await eventually('a stream is open', () => stream.text.includes('200 OK'))
    crash.postMessage({ thread: 0 })
    const [first, second, third] = await within('all are answered', Promise.all(inFlight), 5_000)
    for (const answer of [first, second]) {
      // An answer that had begun can only be cut; both of these had not.
      t.equal(answer?.status, 500, answer?.text ?? '')
      t.match(answer?.text ?? '', /ADAPTER_INTERNAL/, 'a JSON-RPC error that says what happened')
    }
    t.match(third, { status: 200, text: /Waited/ }, 'the other worker did not notice')
    await stream.closed()
    await eventually('it is back', () => replica.supervisor.isComplete)
    t.equal(
      (await call(replica, dying, 'echo')).status,
      200,
      'the session goes on, at the same upstream session',
    )
    t.match(
      (await call(replica, dying, 'read_file', { path: handle })).text,
      /sha256/,
      'and still has its file',
    )
    crash.postMessage({ thread: 0 })
    crash.postMessage({ thread: 1 })
    await eventually('both are gone', () => replica.supervisor.readyWorkers === 0)
    const refused = await post(replica, INITIALIZE)
    t.match(
      [refused.status, refused.text],
      [503, /ADAPTER_OVERLOADED/],
      'with none left a request is told to come back',
    )
    await eventually('both are back', () => replica.supervisor.isComplete)
    for (const session of [dying, other])
      t.equal((await call(replica, session, 'echo')).status, 200)
    await replica.stop()
  },
)

t.test(
  'a worker dies while it receives a file: the client hears of it and its URL can be used again',
  async (t) => {
    const replica = await start()
    const [dying = ''] = await sessionsOfAll(replica)
    const text = (await call(replica, dying, 'files_get_upload_url')).text
    const url = /"upload_url":"([^"]+)"/.exec(text)?.[1] ?? ''
    const connection = new RawConnection(replica.port)
    connection.send(
      `PUT ${pathOf(url)} HTTP/1.1\r\n${HOST}Content-Length: 1000000\r\n\r\n${'x'.repeat(500_000)}`,
    )
    const reserved = async (): Promise<number> =>
      (await replica.supervisor.store.inventory()).reservedBytes
    await eventually('the upload is under way', async () => (await reserved()) > 0)
    crash.postMessage({ thread: 0 })
    t.match(await connection.response(), { status: 500, body: /ADAPTER_INTERNAL/ })
    connection.destroy()
    await eventually('it is back', () => replica.supervisor.isComplete)
    t.equal((await fetch(url, { method: 'PUT', body: 'content' })).status, 200)
    await replica.stop()
  },
)

t.test(
  'the state thread dies: requests fail cleanly or wait, it is started again, and sessions go on',
  async (t) => {
    const replica = await start()
    const sessions = await sessionsOfAll(replica)
    const [session = ''] = sessions
    const handle = await upload(t, replica, session)
    for (let round = 0; round < 2; round++) {
      crash.postMessage({ thread: 'state' })
      await eventually('it is gone', () => !replica.supervisor.isComplete)
      const during = await Promise.all(Array.from({ length: 10 }, () => post(replica, INITIALIZE)))
      for (const answer of during) {
        if (answer.status === 200) continue
        t.match([answer.status, answer.text], [503, /ADAPTER_STATE_UNAVAILABLE/])
      }
      await eventually('it is back', () => replica.supervisor.isComplete)
      await eventually(
        'requests that need it work again',
        async () => (await post(replica, INITIALIZE)).status === 200,
      )
    }
    for (const one of sessions)
      t.equal((await call(replica, one, 'echo')).status, 200, 'the session goes on')
    t.match((await call(replica, session, 'read_file', { path: handle })).text, /sha256/)
    await replica.stop()
  },
)

t.test('a stop while threads are being started again ends everything', async (t) => {
  for (const thread of [0, 'state'] as const) {
    for (const waitMs of [0, 60, 150, 260]) {
      const replica = await start()
      crash.postMessage({ thread })
      await eventually('it is gone', () => !replica.supervisor.isComplete)
      await new Promise((resolve) => setTimeout(resolve, waitMs)) // different moments of the restart
      await within(
        `everything ends, ${waitMs} ms after the crash of ${thread}`,
        replica.stop(),
        5_000,
      )
    }
  }
  t.notOk(process.getActiveResourcesInfo().includes('Worker'), 'no thread is left')
})

t.test('a worker that dies at once, every time, is started ever more slowly', async (t) => {
  const starts = new BroadcastChannel('starts')
  const startedAtMs: number[] = []
  starts.onmessage = () => startedAtMs.push(Date.now()) // oxlint-disable-line unicorn/prefer-add-event-listener -- the types of this channel have no other
  const options = await optionsFor({ worker: new URL('./failing-worker.js', import.meta.url) })
  const supervisor = new Supervisor({ ...options, workers: 1 })
  await supervisor.start()
  await eventually('it was started three times', () => startedAtMs.length >= 3)
  const gaps = startedAtMs.slice(1).map((at, index) => at - (startedAtMs[index] ?? 0))
  t.ok((gaps[0] ?? 0) > 150 && (gaps[1] ?? 0) > 900, `it was started ${gaps.join(', ')} ms apart`)
  await supervisor.stopWorkers(0)
  await supervisor.stopState()
  starts.close()
})

t.test('a start that fails says why and leaves no thread', async (t) => {
  const options = await optionsFor({})
  await writeFile(join(directory, 'not-a-directory'), '')
  const broken = new Supervisor({
    ...options,
    state: {
      ...localStoreOptions(options.config),
      path: join(directory, 'not-a-directory', 'state.sqlite3'),
    },
  })
  await t.rejects(broken.start(), /not-a-directory/)
  await broken.stopWorkers(0)
  await broken.stopState()
  const ending = new Supervisor({
    ...options,
    threads: { worker: new URL('data:text/javascript,process.exit(3)') },
  })
  await t.rejects(ending.start(), /worker \d ended while it was starting/)
  await ending.stopWorkers(0)
  await ending.stopState()
  await eventually('no thread is left', () => !process.getActiveResourcesInfo().includes('Worker'))
})
