/** The export of logs and spans by itself: that every record is accounted for, and that a thread that dies costs only what it had. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'

import t from 'tap'

import { TelemetryExport } from '../../src/primary/telemetry-export.ts'
import { parseConfig } from '../../src/shared/config/load.ts'
import { eventually, within } from '../support/eventually.ts'
import { startOtlpCollector } from '../support/otlp-collector.ts'

const IDENTITY = { replicaId: 'a-replica', version: '1.2.3' }

function configured(telemetry: object) {
  const file = {
    telemetry: { enabled: true, transport: 'http', ...telemetry },
    servers: [{ id: 'a', mount_path: '/a', upstream: { url: 'http://u/mcp' } }],
  }
  const text = JSON.stringify(file)
  return parseConfig({ text, path: 'config.yaml', env: {} }).config.telemetry
}

function entry(text: string) {
  return { timeMs: Date.now(), severity: 9, text, attributes: { a: 1 } }
}

function started(telemetry: object, thread?: URL): TelemetryExport {
  const started = TelemetryExport.of(configured(telemetry), IDENTITY, thread)
  if (started === undefined) throw new Error('nothing is exported')
  return started
}

t.test('nothing is started where nothing is to be exported', async (t) => {
  for (const telemetry of [
    {},
    { enabled: false, emit_logs: true },
    { emit_logs: false, traces: { enabled: false } },
  ])
    t.equal(TelemetryExport.of(configured(telemetry), IDENTITY), undefined)
})

t.test('from a stop signal on, what is still said is exported at once', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  const telemetry = started({
    emit_logs: true,
    logs_endpoint: `${collector.url}/v1/logs`,
    log_batch_schedule_delay_millis: 600_000,
  })
  t.teardown(() => telemetry.stop())
  telemetry.stopRequested()
  telemetry.outbox.log(entry('later than the signal'))
  await eventually('it is exported', () =>
    collector.logs.some(({ body }) => body === 'later than the signal'),
  )
})

t.test('every record is exported, or counted among those that were dropped', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  for (const mood of ['well', 'fails'] as const) {
    collector.mood = mood
    collector.logs.length = 0
    const telemetry = started({
      emit_logs: true,
      logs_endpoint: `${collector.url}/v1/logs`,
      log_batch_max_queue_size: 100,
      log_batch_max_export_batch_size: 30,
      log_batch_schedule_delay_millis: 1,
      log_batch_export_timeout_millis: 300,
      shutdown_drain_timeout_seconds: 5,
    })
    // More in one turn than a thread holds.
    for (let i = 0; i < 5_000; i++) telemetry.outbox.log(entry(`line ${i}`))
    const sum = (): number => {
      const { exported, queueFull, exportFailed, shutdown } = telemetry.counts.logs
      return exported + queueFull + exportFailed + shutdown
    }
    // What the outbox dropped is told with the next batch.
    await eventually('the first batch is there', () => sum() >= 3_000)
    telemetry.outbox.log(entry('one more'))
    await telemetry.stop()
    const { logs, spans } = telemetry.counts
    t.equal(sum(), 5_001, mood)
    t.ok(logs.queueFull >= 904 + 3_900, 'bounded on both sides')
    t.equal(logs.exported, collector.logs.length)
    t.equal(mood === 'well' ? logs.exportFailed : logs.exported, 0)
    t.same(spans, { exported: 0, queueFull: 0, exportFailed: 0, shutdown: 0 })
  }
})

t.test('long lines are bounded by their characters', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  const telemetry = started({ emit_logs: true, logs_endpoint: `${collector.url}/v1/logs` })
  for (let i = 0; i < 100; i++) telemetry.outbox.log(entry('x'.repeat(65_536)))
  await telemetry.stop()
  t.equal(telemetry.counts.logs.exported, 64)
  t.equal(telemetry.counts.logs.queueFull, 36)
})

t.test('a stop gives up at its limit, and may be asked for twice', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  collector.mood = 'hangs'
  const telemetry = started({
    emit_logs: true,
    logs_endpoint: `${collector.url}/v1/logs`,
    shutdown_drain_timeout_seconds: 1,
  })
  telemetry.outbox.log(entry('last words'))
  await within('it stops', Promise.all([telemetry.stop(), telemetry.stop()]), 10_000)
  t.equal(telemetry.counts.logs.exported, 0)
})

t.test('an export thread that dies is started again, and told of', async (t) => {
  const telemetry = started({ emit_logs: true }, new URL('./crashing-export.js', import.meta.url))
  const lost: string[] = []
  let restarts = 0
  telemetry.listen(
    { changed: () => {}, lost: (error) => lost.push(String(error)) },
    () => restarts++,
  )
  telemetry.outbox.log(entry('deadly'))
  // The thread keeps nobody alive, this test included.
  const alive = setInterval(() => {}, 1_000)
  t.teardown(() => clearInterval(alive))
  await eventually('it is there again', () => restarts === 1)
  t.match(lost, [/nobody can bear/])
  telemetry.outbox.log(entry('deadly again'))
  await eventually('and once more', () => restarts === 2)
  await within('it stops', telemetry.stop(), 20_000)
})

t.test('credentials in an endpoint are sent as HTTP Basic authentication, over both', async (t) => {
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  const { host } = new URL(collector.url)
  for (const endpoint of [
    { transport: 'http', logs_endpoint: `http://me:p%C3%A4ss@${host}/v1/logs` },
    { transport: 'grpc', logs_endpoint: `http://me:p%C3%A4ss@${collector.grpcTarget}` },
  ]) {
    collector.headers.length = 0
    collector.logs.length = 0
    const telemetry = started({ emit_logs: true, ...endpoint })
    telemetry.outbox.log(entry('a line'))
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await telemetry.stop()
    t.equal(collector.logs.length, 1, endpoint.logs_endpoint)
    const authorization = `Basic ${Buffer.from('me:päss').toString('base64')}`
    t.match(collector.headers[0], { authorization })
  }
})

t.test(
  'without `insecure` nothing is told over gRPC in the clear, whatever the endpoint',
  async (t) => {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo // TCP
    for (const endpoint of [`http://127.0.0.1:${port}`, `127.0.0.1:${port}`]) {
      const connected = once(server, 'connection')
      const telemetry = started({
        emit_logs: true,
        transport: 'grpc',
        insecure: false,
        logs_endpoint: endpoint,
        shutdown_drain_timeout_seconds: 60,
      })
      telemetry.outbox.log(entry('a line'))
      const stopped = telemetry.stop()
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const [socket] = (await within('it connects', connected)) as [Socket]
      socket.on('error', () => {})
      // oxlint-disable-next-line no-await-in-loop -- see above
      const [bytes] = (await within('it begins', once(socket, 'data'))) as [Buffer]
      t.equal(bytes[0], 0x16, `a handshake of TLS to ${endpoint}`)
      telemetry.hurry()
      // oxlint-disable-next-line no-await-in-loop -- see above
      await within('the end', stopped)
      socket.destroy()
    }
    server.close()
  },
)
