/** Processes as connections: lines, bounds, and that neither processes nor descriptors stay. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { parseConfig } from '../../src/shared/config/load.ts'
import type { AdapterError } from '../../src/shared/errors.ts'
import type { Log } from '../../src/shared/log.ts'
import type {
  MessageConnection,
  MessageListener,
} from '../../src/worker/upstream/bound/message-connection.ts'
import { LineSplitter } from '../../src/worker/upstream/bound/process/line-splitter.ts'
import { StdioTransport } from '../../src/worker/upstream/bound/stdio-transport.ts'
import { eventually } from '../support/eventually.ts'
import { childrenOf } from '../support/process-table.ts'

const folder = mkdtempSync(join(tmpdir(), 'adapter-processes-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const note = (): void => {}
const log: Log = { debug: note, info: note, warn: note, error: note }

/** A transport whose server is this shell script. */
function shell(
  t: { teardown(work: () => Promise<void>): void },
  script: string,
  more = {},
  into = log,
) {
  const upstream = {
    transport: 'stdio',
    command: '/bin/sh',
    args: ['-c', script],
    stop_grace_seconds: 1,
    ...more,
  }
  const servers = [{ id: 's', mount_path: '/s', upstream }]
  const { config } = parseConfig({ text: JSON.stringify({ servers }), path: 'c', env: {} })
  const [server] = config.servers
  if (server === undefined) throw new Error('there is a server')
  const transport = new StdioTransport(server, into)
  t.teardown(() => transport.close())
  return transport
}

class Listener implements MessageListener {
  readonly messages: string[] = []
  error: AdapterError | undefined

  message(bytes: Uint8Array): void {
    this.messages.push(Buffer.from(bytes).toString('utf8'))
  }

  closed(error: AdapterError): void {
    this.error = error
  }
}

async function open(
  transport: StdioTransport,
): Promise<{ listener: Listener; connection: MessageConnection }> {
  const listener = new Listener()
  const connection = await transport.open(listener, [], new AbortController().signal)
  return { listener, connection }
}

t.test('lines are whole however they come, and long ones are cut once', async (t) => {
  const text = 'one\r\n\ntwo – zwei\nlonger than it may be\nlast'
  const expected = [
    ['one', false],
    ['', false],
    ['two – zwei', false],
    ['longer than it', true],
    ['last', false],
  ]
  const bytes = Buffer.from(text)
  for (let size = 1; size <= bytes.length; size++) {
    const lines: unknown[] = []
    const splitter = new LineSplitter(14, (line, isCut) =>
      lines.push([Buffer.from(line).toString('utf8'), isCut]),
    )
    for (let at = 0; at < bytes.length; at += size) splitter.push(bytes.subarray(at, at + size))
    splitter.end()
    t.same(lines, expected, `pieces of ${size}`)
  }
})

t.test('what is sent arrives, and what is written comes back, line by line', async (t) => {
  const transport = shell(t, 'while read -r line; do echo "$line"; done', {
    cwd: join(folder, 'made', 'here'),
  })
  const { listener, connection } = await open(transport)
  for (const id of [1, 2, 3]) await connection.send(Buffer.from(`{"id":${id}}`), [])
  await eventually('all are back', () => listener.messages.length === 3)
  t.same(listener.messages, ['{"id":1}', '{"id":2}', '{"id":3}'])
  t.ok(statSync(join(folder, 'made', 'here')).isDirectory(), 'its directory is made')
  await connection.close()
  t.equal(listener.error, undefined, 'a close is no loss')
  await t.rejects(connection.send(Buffer.from('{}'), []), { code: 'ADAPTER_UPSTREAM_UNREACHABLE' })
})

t.test('the last words of a process arrive before its end is told', async (t) => {
  const { listener } = await open(shell(t, `echo '{"last":true}'; exit 4`))
  await eventually('the end is told', () => listener.error !== undefined)
  t.same(listener.messages, ['{"last":true}'])
  t.match(listener.error?.message, /ended with exit code 4/)
})

t.test('a paused process waits, and goes on', async (t) => {
  const line = `{"x":"${'y'.repeat(1_000)}"}`
  const { listener, connection } = await open(
    shell(
      t,
      `read -r go; i=0; while [ $i -lt 2000 ]; do echo '${line}'; i=$((i+1)); done; read -r end`,
    ),
  )
  connection.pause()
  await connection.send(Buffer.from('{}'), [])
  await new Promise(setImmediate)
  connection.resume()
  connection.pause()
  t.ok(listener.messages.length < 2_000)
  connection.resume()
  await eventually('all has come', () => listener.messages.length === 2_000)
})

t.test('a process that closes its output or input is lost, though it lives', async (t) => {
  for (const [script, what] of [
    ['exec 1>&-; sleep 60', 'output'],
    ['exec 0<&-; sleep 60', 'input'],
  ] as const) {
    const { listener, connection } = await open(shell(t, script))
    await eventually('it is told', async () => {
      // A closed input shows when something is sent.
      await connection.send(Buffer.from('{}'), []).catch(() => undefined)
      return listener.error !== undefined
    })
    t.match(listener.error?.message, new RegExp(`closed its ${what}`))
  }
})

t.test('a process that does not read is sent a bounded amount', async (t) => {
  const { connection } = await open(shell(t, 'exec sleep 60'))
  const large = Buffer.alloc(8 * 1_048_576, 'x')
  const sendAll = async (): Promise<void> => {
    for (let i = 0; i < 12; i++) await connection.send(large, [])
  }
  await t.rejects(sendAll(), { message: /does not read/ })
})

t.test('an open that is not wanted any more leaves no process', async (t) => {
  const transport = shell(t, 'exec sleep 60')
  const abort = new AbortController()
  const opening = transport.open(new Listener(), [], abort.signal)
  abort.abort()
  await t.rejects(opening)
  t.equal(transport.size, 0)
})

t.test('sessions too many are refused each, and told in the log once', async (t) => {
  const told: unknown[] = []
  const into: Log = { ...log, warn: (...line: unknown[]) => void told.push(line) }
  const transport = shell(
    t,
    'while read -r line; do echo "$line"; done',
    { max_processes: 1 },
    into,
  )
  const { connection } = await open(transport)
  for (let n = 0; n < 3; n++) await t.rejects(open(transport), { code: 'ADAPTER_PROCESS_LIMIT' })
  t.match(told, [[{ server: 's', maxProcesses: 1 }, /no more processes/]])
  t.equal(told.length, 1)
  await connection.close()
})

t.test('many sessions leave neither processes nor descriptors behind', async (t) => {
  const transport = shell(t, 'while read -r line; do echo "$line"; done', { max_processes: 10 })
  const once = async (): Promise<void> => {
    const { listener, connection } = await open(transport)
    await connection.send(Buffer.from('{"id":1}'), [])
    await eventually('it answers', () => listener.messages.length === 1)
    await connection.close()
  }
  const several = async (rounds: number): Promise<void> => {
    for (let i = 0; i < rounds; i++) await Promise.all(Array.from({ length: 5 }, once))
  }
  await several(2)
  const before = descriptors()
  await several(30)
  t.ok(descriptors() <= before + 2, `${before} before, ${descriptors()} after`)
  t.equal(transport.size, 0)
  await transport.close()
  await eventually('the guard is gone, too', () => childrenOf(process.pid).length === 0)
})

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}
