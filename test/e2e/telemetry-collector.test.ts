/** A collector that is away, silent, talks nonsense or refuses: no request notices, what waits is bounded, and the end comes in time. */
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { FileRig } from '../support/file-rig.ts'
import { OtlpReceiver } from '../support/otlp-receiver.ts'
import type { Manner } from '../support/otlp-receiver.ts'
import { freePort } from '../support/redis.ts'

t.setTimeout(300_000)

const REQUESTS = 60

async function rigWith(
  t: Test,
  telemetry: object,
  more: { readonly core?: object } = {},
): Promise<FileRig> {
  const rig = await FileRig.start({
    core: { workers: 2, ...more.core },
    telemetry: {
      enabled: true,
      export_interval_seconds: 1,
      periodic_flush_seconds: 1,
      export_timeout_seconds: 2,
      shutdown_drain_timeout_seconds: 1,
      prometheus: { enabled: true },
      ...telemetry,
    },
  })
  t.teardown(() => rig.stop().catch(() => undefined))
  return rig
}

/** The sum of a metric, as shown to Prometheus. */
async function shown(rig: FileRig, name: string, labels = ''): Promise<number> {
  const text = await (await fetch(`${rig.url}/metrics`)).text()
  return [...text.matchAll(new RegExp(`^${name}\\{([^}]*)\\} (\\S+)$`, 'gm'))]
    .filter(([, had = '']) => had.includes(labels))
    .reduce((sum, [, , value]) => sum + Number(value), 0)
}

/** Calls are answered, as they are without a collector. */
async function serves(t: Test, rig: FileRig): Promise<void> {
  const session = await rig.openSession()
  const answers = await within(
    'all calls are answered',
    Promise.all(
      Array.from({ length: REQUESTS }, (_, i) => rig.call(session, 'echo', { text: `n${i}` })),
    ),
    20_000,
  )
  t.same(
    answers.map(({ status, text }, i) => status === 200 && text.includes(`n${i}`)),
    answers.map(() => true),
  )
}

const RECEIVERS = { http: () => OtlpReceiver.http(), grpc: () => OtlpReceiver.grpc() } as const

for (const transport of ['http', 'grpc'] as const) {
  for (const manner of ['hangs', 'raves', 'refuses'] as const satisfies readonly Manner[]) {
    t.test(`over ${transport}, a collector that ${manner} changes no request`, async (t) => {
      const receiver = await RECEIVERS[transport]()
      t.teardown(() => receiver.stop())
      receiver.manner = manner
      const rig = await rigWith(t, { transport, endpoint: receiver.url, max_queue_size: 300 })
      await eventually('an export is under way', () => receiver.requests > 0)
      await serves(t, rig)
      if (manner === 'raves') {
        // Nonsense that came with a good status is nothing that could be repeated.
        await eventually('it goes on', () => receiver.requests > 2)
      } else {
        await eventually(
          'what did not get there is counted',
          async () => (await shown(rig, 'adapter_telemetry_dropped_total')) > 0,
        )
        await eventually('and that an export failed', async () =>
          rig.replica.logs().includes('metrics could not be exported'),
        )
        t.ok((await shown(rig, 'adapter_telemetry_exports_total', 'result="failure"')) > 0)
      }
      t.ok((await shown(rig, 'adapter_telemetry_queue_size')) <= 300 + 256, 'what waits is bounded')
      t.equal(await within('the end', rig.stop(), 15_000), 0)
    })
  }
}

t.test(
  'a collector that is not there changes no request, and is told of once a minute',
  async (t) => {
    const rig = await rigWith(t, {
      transport: 'http',
      endpoint: `http://127.0.0.1:${await freePort()}/v1/metrics`,
      export_timeout_seconds: 1,
    })
    await serves(t, rig)
    await eventually(
      'several exports failed',
      async () => (await shown(rig, 'adapter_telemetry_exports_total', 'result="failure"')) > 2,
    )
    const told = rig.replica.logs().split('metrics could not be exported').length - 1
    t.equal(told, 1)
    t.equal(await within('the end', rig.stop(), 15_000), 0)
  },
)

t.test('a collector that accepts connections and says nothing holds up no stop', async (t) => {
  const sockets = new Set<{ destroy(): void }>()
  const server = createServer((socket) => sockets.add(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo // TCP
  for (const endpoint of [`http://127.0.0.1:${port}`, `127.0.0.1:${port}`]) {
    const transport = endpoint.startsWith('http') ? 'http' : 'grpc'
    // Longer than the stop may take.
    const rig = await rigWith(t, { transport, endpoint, export_timeout_seconds: 600 })
    await serves(t, rig)
    await eventually('it is connected to', () => sockets.size > 0)
    sockets.clear()
    t.equal(await within('the end', rig.stop(), 15_000), 0)
  }
})

t.test('with drop_on_queue_full off nothing is dropped, and all arrives in the end', async (t) => {
  const receiver = await OtlpReceiver.http()
  t.teardown(() => receiver.stop())
  receiver.manner = 'hangs'
  const rig = await rigWith(t, {
    transport: 'http',
    endpoint: receiver.url,
    max_queue_size: 1,
    drop_on_queue_full: false,
    export_timeout_seconds: 1,
  })
  await eventually('exports hang', () => receiver.requests > 1)
  await serves(t, rig)
  receiver.manner = 'takes'
  await eventually(
    'the calls arrive',
    () => receiver.total('adapter_upstream_tool_calls_total') >= REQUESTS,
  )
  t.equal(receiver.total('adapter_telemetry_dropped_total', { reason: 'queue_full' }), 0)
})

t.test('a worker that is started again goes on counting where the last one ended', async (t) => {
  const receiver = await OtlpReceiver.http()
  t.teardown(() => receiver.stop())
  const directory = t.testdir()
  const crash = join(directory, 'crash')
  process.env['CRASH_WORKER_FILE'] = crash
  process.env['NODE_OPTIONS'] =
    `--import=${new URL('../support/crash-on-file.js', import.meta.url).href}`
  const started = rigWith(
    t,
    { transport: 'http', endpoint: receiver.url },
    { core: { workers: 1 } },
  )
  const rig = await started.finally(() => {
    delete process.env['CRASH_WORKER_FILE']
    delete process.env['NODE_OPTIONS']
  })
  const session = await rig.openSession()
  for (let i = 0; i < 5; i++) await rig.call(session, 'echo', { text: 'x' })
  const calls = (): number => receiver.total('adapter_upstream_tool_calls_total')
  await eventually('five calls arrive', () => calls() === 5)
  await writeFile(crash, '')
  await eventually(
    'the worker was started again',
    () => receiver.total('adapter_thread_restarts_total', { thread: 'worker' }) === 1,
  )
  await eventually('it serves', () => rig.serves(session).catch(() => false))
  await eventually('its call is added', () => calls() > 5)
  t.same(receiver.fallen, [], 'no total fell')
  t.ok(receiver.total('adapter_adapter_wiring_runs_total', { result: 'retry' }) >= 1)
})

t.test('a second signal does not wait for a collector that is silent', async (t) => {
  const receiver = await OtlpReceiver.http()
  t.teardown(() => receiver.stop())
  receiver.manner = 'hangs'
  const rig = await rigWith(t, {
    transport: 'http',
    endpoint: receiver.url,
    emit_logs: false,
    export_interval_seconds: 600,
    export_timeout_seconds: 600,
    flush_on_terminate: false,
    shutdown_drain_timeout_seconds: 600,
  })
  const stopped = rig.replica.stop()
  await eventually('the last export is under way', () => receiver.requests > 0)
  process.kill(rig.replica.pid, 'SIGINT')
  t.equal(await within('it ends', stopped, 8_000), 0)
})
