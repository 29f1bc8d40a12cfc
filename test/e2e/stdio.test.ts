/** Servers that the adapter runs itself: what a client does with one, what they may do wrong, and that no process stays. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import {
  Client as ModernClient,
  StreamableHTTPClientTransport as ModernTransport,
} from '@modelcontextprotocol/client'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CallToolResultSchema,
  ElicitRequestSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { childrenOf, commandOf, isAlive } from '../support/process-table.ts'
import { startReplica } from '../support/replica.ts'
import { noted } from '../support/secret-scan.ts'
import { stdioSection } from '../support/upstreams/stdio/stdio-section.ts'
import { answerIn, initialize, WireSession } from '../support/wire.ts'

// Several processes start here, one after the other.
t.setTimeout(600_000)

const SECRET = noted('a-secret-of-the-server-1234')

const workspace = await mkdtemp(join(tmpdir(), 'adapter-stdio-'))
const replica = await startReplica({
  config: {
    core: { workers: 1, allow_artifacts_download: true, cleanup_interval_seconds: 1 },
    sessions: { upstream_session_termination_retries: 1 },
    servers: [
      stdioSection('files', {
        workspace,
        more: {
          cwd: workspace,
          env: { SERVER_SECRET: SECRET, NAME: 'configured' },
          inherit_env: ['PATH', 'SHOWN', 'ABSENT'],
        },
      }),
      stdioSection('shared', { workspace, more: { process: 'shared' } }),
      stdioSection('chatty', { workspace, manner: 'chatty' }),
      stdioSection('exits', { workspace, manner: 'exits' }),
      stdioSection('hangs', { workspace, manner: 'hangs', more: { start_timeout_seconds: 1 } }),
      stdioSection('stubborn', { workspace, manner: 'stubborn', more: { stop_grace_seconds: 1 } }),
      stdioSection('small', {
        workspace,
        more: { max_processes: 1, max_message_bytes: '8Ki', max_memory: '300Mi' },
      }),
      {
        id: 'missing',
        mount_path: '/mcp/missing',
        upstream: { transport: 'stdio', command: '/nowhere/server' },
      },
    ],
  },
  env: { SHOWN: 'shown', HIDDEN_VARIABLE: 'hidden' },
})
t.teardown(async () => {
  if (!t.passing()) t.comment(replica.logs())
  await replica.stop()
  await rm(workspace, { recursive: true, force: true })
})

const transports = new WeakMap<Client, StreamableHTTPClientTransport>()

async function connect(id: string, url = replica.url): Promise<Client> {
  const client = new Client(
    { name: 'e2e', version: '1' },
    { capabilities: { elicitation: {}, roots: {} } },
  )
  const transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp/${id}`))
  await client.connect(transport)
  transports.set(client, transport)
  return client
}

async function call(
  client: Client,
  name: string,
  args: Record<string, unknown> = {},
  options: object = {},
): Promise<CallToolResult> {
  const result = await client.callTool({ name, arguments: args }, undefined, {
    timeout: 20_000,
    ...options,
  })
  return CallToolResultSchema.parse(result)
}

function textOf({ content }: CallToolResult): string {
  const [block] = content
  return block?.type === 'text' ? block.text : ''
}

interface ProcessReport {
  readonly pid: number
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

async function processOf(client: Client): Promise<ProcessReport> {
  // What the server's tool answers.
  return JSON.parse(textOf(await call(client, 'process'))) as ProcessReport
}

/** Ends the session, and waits until its process is gone. */
async function leave(client: Client): Promise<void> {
  await transports.get(client)?.terminateSession()
  await client.close()
}

t.test('a client does everything with a server on stdio', async (t) => {
  const client = await connect('files')
  t.teardown(() => leave(client))
  t.equal(client.getServerVersion()?.name, 'file-server')
  const names = (await client.listTools()).tools.map(({ name }) => name)
  t.ok(names.includes('files_get_upload_url'), 'the adapter adds its tool')

  const steps: number[] = []
  const slow = await call(
    client,
    'slow',
    { ms: 100 },
    {
      onprogress: ({ progress }: { progress: number }) => void steps.push(progress),
    },
  )
  t.equal(textOf(slow), 'Waited for 100 ms')
  t.same(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])

  client.setRequestHandler(ElicitRequestSchema, () => ({
    action: 'accept' as const,
    content: { name: 'Zoë' },
  }))
  t.equal(textOf(await call(client, 'ask')), 'Hello Zoë')

  const abort = new AbortController()
  const waiting = call(client, 'wait', {}, { signal: abort.signal })
  waiting.catch(() => undefined)
  await eventually('the tool waits', () => replica.logs().includes('"line":"waiting"'))
  abort.abort()
  await t.rejects(waiting)
  await eventually('it is cancelled', () => replica.logs().includes('"line":"cancelled"'))

  const bytes = Buffer.from('grüße\n'.repeat(1_000))
  const helper = await call(client, 'files_get_upload_url')
  const form = new FormData()
  form.append('file', new Blob([bytes]), 'größe.txt')
  const uploaded = await fetch(String(helper.structuredContent?.['upload_url']), {
    method: 'POST',
    body: form,
  })
  const { upload_handle: handle } = (await uploaded.json()) as { upload_handle: string } // as documented
  const read = textOf(await call(client, 'read_file', { path: handle }))
  t.match(JSON.parse(read), {
    size: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })

  const report = await call(client, 'write_report', { filename: 'r.txt', content: 'made' })
  const artifact = report['_meta']?.['artifact'] as { download_url: string } // as documented
  t.equal(await (await fetch(artifact.download_url)).text(), 'made')
})

t.test(
  'what belongs to no call reaches the client on its stream, after a reconnect too',
  async (t) => {
    const client = await connect('files')
    let changes = 0
    client.setNotificationHandler(ToolListChangedNotificationSchema, () => void changes++)
    const { pid } = await processOf(client)
    await call(client, 'grow')
    await eventually('the change is told', () => changes > 0)

    const sessionId = transports.get(client)?.sessionId ?? ''
    await client.close()
    const back = new WireSession(`${replica.url}/mcp/files`, sessionId, '2025-06-18')
    const stream = await back.get()
    t.equal(stream.status, 200)
    t.match(JSON.parse(textIn(await back.call('process'))), { pid }, 'the same process')
    stream.close()
    await back.delete()
  },
)

function textIn(answer: Parameters<typeof answerIn>[0]): string {
  return textOf(CallToolResultSchema.parse(answerIn(answer).result))
}

t.test(
  'sessions have processes of their own, with the environment that is configured',
  async (t) => {
    const [one, other] = [await connect('files'), await connect('files')]
    t.teardown(() => leave(other))
    const [report, second] = [await processOf(one), await processOf(other)]
    t.not(report.pid, second.pid)
    t.equal(report.cwd, workspace)
    t.match(report.env, { SERVER_SECRET: SECRET, NAME: 'configured', SHOWN: 'shown' })
    t.notOk('HIDDEN_VARIABLE' in report.env, 'nothing else of the adapter is shown to it')
    t.notOk('ABSENT' in report.env)
    const child = Number(textOf(await call(one, 'descend')))
    t.ok(isAlive(child))
    await leave(one)
    await eventually('DELETE ends the process', () => !isAlive(report.pid))
    await eventually('and those it had started', () => !isAlive(child))
    t.ok(isAlive(second.pid), 'the other session has kept its own')
  },
)

t.test('a server that is killed during a call is told of, and starts again', async (t) => {
  for (const signal of ['SIGKILL', 'SIGTERM']) {
    const session = await WireSession.open(`${replica.url}/mcp/files`)
    const before = JSON.parse(textIn(await session.call('process'))) as ProcessReport
    const died = await within('an answer', session.call('die', { signal }))
    t.match(answerIn(died).error, {
      code: 1502,
      message: new RegExp(`ended by ${signal}`),
      data: { code: 'ADAPTER_UPSTREAM_UNREACHABLE', retryable: true },
    })
    const after = JSON.parse(textIn(await session.call('process'))) as ProcessReport
    t.not(after.pid, before.pid, 'the session goes on with a new process')
    await session.delete()
    await eventually('no process stays', () => !isAlive(before.pid) && !isAlive(after.pid))
  }
})

t.test(
  'a shared process serves several sessions, and starts again for those that go on',
  async (t) => {
    const sessions = [
      await WireSession.open(`${replica.url}/mcp/shared`),
      await WireSession.open(`${replica.url}/mcp/shared`),
    ]
    const [one, other] = sessions
    if (one === undefined || other === undefined) return
    const { pid } = JSON.parse(textIn(await one.call('process'))) as ProcessReport
    t.match(JSON.parse(textIn(await other.call('process'))), { pid })
    const slow = other.call('slow', { ms: 200 })
    t.equal(textIn(await one.call('slow', { ms: 100 })), 'Waited for 100 ms')
    t.equal(textIn(await slow), 'Waited for 200 ms')
    t.match(answerIn(await one.call('ask')).result, { isError: true }, 'it can ask nobody')
    await one.delete()
    t.ok(isAlive(pid), 'it is not the process of one session')

    const died = await within('an answer', other.call('die', { signal: 'SIGKILL' }))
    t.match(answerIn(died).error, { data: { code: 'ADAPTER_UPSTREAM_UNREACHABLE' } })
    const next = JSON.parse(textIn(await other.call('process'))) as ProcessReport
    t.not(next.pid, pid)
    t.match(replica.logs(), /shared server starts again/)
    await other.delete()
  },
)

t.test('a server that prints on its standard output works all the same', async (t) => {
  const client = await connect('chatty')
  t.teardown(() => leave(client))
  t.ok((await client.listTools()).tools.length > 0)
  await eventually('it is logged', () => replica.logs().includes('Welcome to the server!'))
})

t.test('a server that can not work is an error within its limit, and no process', async (t) => {
  const cases: [id: string, status: number, message: RegExp][] = [
    ['exits', 502, /ended with exit code 3/],
    ['hangs', 504, /did not answer initialize within 1 s/],
    ['missing', 502, /can not be started/],
  ]
  for (const [id, status, message] of cases) {
    const answer = await within(id, initialize(`${replica.url}/mcp/${id}`))
    t.equal(answer.status, status, id)
    t.match(answer.json().error?.message, message)
    t.notMatch(answer.body, /nowhere/, 'what is configured is for the log')
  }
  t.match(replica.logs(), /ENOENT.*server can not be started/)
  await eventually('guards and the shared process are left', () => serverPids().length === 1)
})

/** Processes that the adapter has, without the guards. */
function serverPids(): readonly number[] {
  return childrenOf(replica.pid).filter((pid) => !isGuard(pid))
}

function isGuard(pid: number): boolean {
  return commandOf(pid).includes('process-guard')
}

t.test('a client of revision 2026-07-28 finds that it has to initialise', async (t) => {
  const client = new ModernClient(
    { name: 'modern', version: '1' },
    { versionNegotiation: { mode: 'auto' } },
  )
  const transport = new ModernTransport(new URL(`${replica.url}/mcp/files`))
  await client.connect(transport)
  const { tools } = await client.listTools()
  t.ok(tools.some(({ name }) => name === 'process'))
  await transport.terminateSession()
  await client.close()
})

t.test('a server that ignores the end of its input and SIGTERM is killed', async (t) => {
  const client = await connect('stubborn')
  const { pid } = await processOf(client)
  await leave(client)
  await eventually('it is gone', () => !isAlive(pid))
  t.match(replica.logs(), /"line":"not yet"/, 'it was asked first')
})

t.test('a process too many is refused with 503, until one has ended', async (t) => {
  const url = `${replica.url}/mcp/small`
  const first = await WireSession.open(url)
  const refused = await initialize(url)
  t.equal(refused.status, 503)
  t.equal(refused.headers['retry-after'], '1')
  t.match(refused.json().error, {
    message: /max_processes \(1\)/,
    data: { code: 'ADAPTER_PROCESS_LIMIT', retryable: true },
  })
  await first.delete()
  await eventually('there is room again', async () => (await initialize(url)).status === 200)
})

t.test('a message beyond its limit, and memory beyond its own, end the process', async (t) => {
  const other = await startReplica({
    config: {
      core: { workers: 1 },
      servers: [
        stdioSection('small', {
          workspace,
          more: { max_message_bytes: '64Ki', max_memory: '300Mi' },
        }),
      ],
    },
  })
  t.teardown(() => other.stop())
  const session = await WireSession.open(`${other.url}/mcp/small`)
  const fits = await session.call('long', { bytes: 60_000 })
  t.equal(textIn(fits).length, 60_000)
  const tooLong = await session.call('long', { bytes: 200_000 })
  t.match(answerIn(tooLong).error, {
    message: /max_message_bytes \(65536\)/,
    data: { code: 'ADAPTER_UPSTREAM_INVALID' },
  })
  let told: string | undefined
  let last = ''
  // One that comes while the old process ends may still be told of that.
  await eventually('another process serves', async () => {
    const answer = await session.call('process')
    last = answer.body
    told = answerIn(answer).error === undefined ? textIn(answer) : undefined
    return told !== undefined
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last}\n${other.logs()}`)
  })
  const { pid } = JSON.parse(told ?? '') as ProcessReport
  // Whether it still answers depends on when it is looked at.
  await session.call('inflate', { mebibytes: 400 })
  await eventually('it is ended', () => !isAlive(pid))
  t.match(other.logs(), /more than upstream\.max_memory/)
})

t.test('standard error goes to the log, bounded and without secrets', async (t) => {
  const client = await connect('files')
  t.teardown(() => leave(client))
  const { pid } = await processOf(client)
  const say = (text: string) => call(client, 'complain', { text })
  await say(`the key is ${SECRET}\n\u001b[31mred\u001b[0m alert\nx${'y'.repeat(10_000)}\n`)
  const secretKey = noted('MIIEvQIBADANBgkqhkiG9w0BAQEFAASC')
  await say(`-----BEGIN PRIVATE KEY-----\n${secretKey}\n-----END PRIVATE KEY-----\n`)
  await eventually('it is logged', () => replica.logs().includes('"line":"red alert"'))
  t.match(
    replica.logs(),
    new RegExp(`"server":"files","pid":${pid},"stream":"stderr","line":"the key is <redacted>"`),
  )
  t.match(replica.logs(), /a line of more than 4096 bytes/)
  const many = Array.from({ length: 1_000 }, (_, index) => `line ${index}\n`).join('')
  await say(many)
  await say('the last\n')
  await eventually('what is left out is counted', async () => {
    await say('and on\n')
    return replica.logs().includes('these lines are left out')
  })
  const told = replica.logs().match(/"line":"line \d+"/g) ?? []
  t.ok(told.length < 400, `${told.length} lines`)
})

t.test('an idle session ends its process when it expires', async (t) => {
  const other = await startReplica({
    config: {
      core: { workers: 1, cleanup_interval_seconds: 1 },
      sessions: { idle_ttl_seconds: 1, allow_revival: false },
      servers: [stdioSection('files', { workspace })],
    },
  })
  t.teardown(() => other.stop())
  const session = await WireSession.open(`${other.url}/mcp/files`)
  const { pid } = JSON.parse(textIn(await session.call('process'))) as ProcessReport
  await eventually('the process is gone', () => !isAlive(pid))
})

t.test('no process outlives the adapter, however it ends', async (t) => {
  for (const how of ['stop', 'kill'] as const) {
    const other = await startReplica({
      config: {
        core: { workers: 2 },
        servers: ['well', 'stubborn'].map((manner) =>
          stdioSection(manner, { workspace, manner, more: { stop_grace_seconds: 1 } }),
        ),
      },
    })
    const pids: number[] = []
    for (const manner of ['well', 'stubborn']) {
      const session = await WireSession.open(`${other.url}/mcp/${manner}`)
      const { pid } = JSON.parse(textIn(await session.call('process'))) as ProcessReport
      pids.push(pid, Number(textIn(await session.call('descend'))))
    }
    const all = [...pids, ...childrenOf(other.pid)]
    t.ok(all.length > pids.length, 'guards among them')
    t.ok(all.every(isAlive))
    if (how === 'kill') await other.kill()
    else t.equal(await other.stop(), 0)
    await eventually(`none is left after ${how}`, () => !all.some(isAlive))
    if (how === 'kill') await rm(join(other.root, '..'), { recursive: true, force: true })
  }
})
