/** The telemetry thread from the primary's side: what it takes when that thread dies, and how it ends. */
import { BroadcastChannel } from 'node:worker_threads'

import t from 'tap'

import { parseConfig } from '../../src/shared/config/load.ts'
import { openLog } from '../../src/shared/log.ts'
import { Redactor } from '../../src/shared/redaction.ts'
import { Telemetry } from '../../src/primary/telemetry.ts'
import { eventually, within } from '../support/eventually.ts'
import { OtlpReceiver } from '../support/otlp-receiver.ts'
import type { CrashMessage } from './crashing-telemetry.ts'

t.setTimeout(120_000)

function parts(telemetry: object) {
  const text = JSON.stringify({
    telemetry,
    servers: [{ id: 'a', mount_path: '/a', upstream: { url: 'http://127.0.0.1:1/mcp' } }],
  })
  return {
    config: parseConfig({ text, path: 'config.yaml', env: {} }).config,
    replicaId: 'r1',
    version: '1.2.3',
    log: openLog('critical', 'primary', new Redactor({ values: [] })),
    thread: new URL('crashing-telemetry.js', import.meta.url),
  }
}

t.test('there is none unless the configuration wants it', async (t) => {
  t.equal(await Telemetry.start(parts({})), undefined)
  t.equal(await Telemetry.start(parts({ enabled: false })), undefined)
})

t.test('a telemetry thread that dies is started again, and nothing waits meanwhile', async (t) => {
  const telemetry = await Telemetry.start(parts({ prometheus: { enabled: true } }))
  if (telemetry === undefined) throw new Error('none')
  t.teardown(() => telemetry.stop())
  telemetry.recorder.set('adapter_workers_ready', {}, 4)
  t.match(await telemetry.scrape(), /adapter_workers_ready 4/)
  const channel = new BroadcastChannel('crash-telemetry')
  t.teardown(() => channel.close())
  channel.postMessage('crash' satisfies CrashMessage)
  await eventually(
    'it is gone',
    async () => (await within('an answer', telemetry.scrape())) === undefined,
  )
  telemetry.recorder.add('adapter_upload_files_total', { server_id: 'a' })
  telemetry.counted('worker-0', { counters: [], histograms: [], gauges: [] })
  await eventually('it is back', async () => {
    const text = await within('an answer', telemetry.scrape())
    return text?.includes('adapter_thread_restarts_total{thread="telemetry"} 1') === true
  })
  t.match(await telemetry.scrape(), /adapter_workers_ready 4/)
})

t.test('scrapes that ask for more than there is room for are turned away', async (t) => {
  const telemetry = await Telemetry.start(parts({ prometheus: { enabled: true } }))
  if (telemetry === undefined) throw new Error('none')
  const answers = await Promise.all(Array.from({ length: 20 }, () => telemetry.scrape()))
  t.equal(answers.filter((text) => text !== undefined).length, 16)
  await telemetry.stop()
  t.equal(await telemetry.scrape(), undefined)
})

t.test('who is in a hurry does not wait for the collector', async (t) => {
  const receiver = await OtlpReceiver.http()
  t.teardown(() => receiver.stop())
  receiver.manner = 'hangs'
  const telemetry = await Telemetry.start(
    parts({
      enabled: true,
      transport: 'http',
      endpoint: receiver.url,
      export_timeout_seconds: 600,
      shutdown_drain_timeout_seconds: 600,
    }),
  )
  if (telemetry === undefined) throw new Error('none')
  telemetry.recorder.set('adapter_workers_ready', {}, 1)
  const stopped = telemetry.stop()
  await eventually('the last export is under way', () => receiver.requests > 0)
  telemetry.hurry()
  await within('the end', stopped)
  t.pass('it ended')
})

t.test('the last export of what all threads counted is made at the end', async (t) => {
  const receiver = await OtlpReceiver.grpc()
  t.teardown(() => receiver.stop())
  const telemetry = await Telemetry.start(
    parts({ enabled: true, endpoint: receiver.url.replace('http://', ''), service_name: 'x' }),
  )
  if (telemetry === undefined) throw new Error('none')
  telemetry.counted('worker-0', {
    counters: [['adapter_upload_files_total', ['a'], 3]],
    histograms: [],
    gauges: [],
  })
  await telemetry.stop()
  t.equal(receiver.total('adapter_upload_files_total'), 3)
  t.match(receiver.resource, { 'service.name': 'x', 'service.instance.id': 'r1' })
})
