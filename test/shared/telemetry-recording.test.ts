/** Recording, adding up and queueing, without threads: what is bounded stays so, and totals are exact. */
import t from 'tap'

import { createTallyMemory, FrameTally } from '../../src/shared/frames/frame-tally.ts'
import {
  MAX_LABEL_SETS,
  MetricRecorder,
  NOT_RECORDING,
} from '../../src/shared/telemetry/recorder.ts'
import { ExportQueue } from '../../src/shared/telemetry/export/export-queue.ts'
import { renderExposition } from '../../src/shared/telemetry/export/exposition.ts'
import { otlpBatches } from '../../src/shared/telemetry/export/otlp-batches.ts'
import { RareWarnings } from '../../src/shared/rare-warnings.ts'
import { Totals } from '../../src/shared/telemetry/export/totals.ts'
import type { MetricsDelta } from '../../src/shared/telemetry/delta.ts'
import { ThreadReport } from '../../src/shared/telemetry/thread-report.ts'
import { eventually } from '../support/eventually.ts'
import { promtool } from '../support/promtool.ts'

const FILES = { server_id: 'files' } as const

t.test('what was counted is handed on once, gauges each time', async (t) => {
  const recorder = new MetricRecorder()
  recorder.add('adapter_upload_bytes_total', FILES, 5)
  recorder.add('adapter_upload_bytes_total', FILES, 7)
  recorder.set('adapter_workers_ready', {}, 3)
  recorder.observe('adapter_stream_takeover_duration_seconds', FILES, 0.02)
  let samples = 0
  recorder.beforeReport(() => samples++)
  const first = recorder.take()
  t.same(first.counters, [['adapter_upload_bytes_total', ['files'], 12]])
  t.same(first.gauges, [['adapter_workers_ready', [], 3]])
  t.equal(first.histograms.length, 1)
  t.same(recorder.take(), {
    counters: [],
    histograms: [],
    gauges: [['adapter_workers_ready', [], 3]],
  })
  t.equal(samples, 2)
})

t.test('a counter that nothing happened to is told of once, so that it begins at 0', async (t) => {
  const recorder = new MetricRecorder()
  recorder.add('adapter_thread_restarts_total', { thread: 'worker' }, 0)
  t.same(recorder.take().counters, [['adapter_thread_restarts_total', ['worker'], 0]])
  t.same(recorder.take().counters, [])
  recorder.add('adapter_thread_restarts_total', { thread: 'worker' })
  t.same(recorder.take().counters, [['adapter_thread_restarts_total', ['worker'], 1]])
})

t.test('whoever asks between two reports changes nothing of the event loop', async (t) => {
  const recorder = new MetricRecorder()
  const sent: MetricsDelta[] = []
  const rare = new ThreadReport({
    recorder,
    thread: 'primary',
    intervalMs: 3_600_000,
    send: (delta) => sent.push(delta),
  })
  rare.send()
  rare.end()
  const names = sent.flatMap(({ gauges }) => gauges.map(([name]) => name))
  t.ok(names.includes('adapter_memory_bytes'))
  t.notOk(names.some((name) => name.startsWith('adapter_event_loop')))
  const often: MetricsDelta[] = []
  const report = new ThreadReport({
    recorder: new MetricRecorder(),
    thread: 'primary',
    intervalMs: 1,
    send: (delta) => often.push(delta),
  })
  t.teardown(() => report.end())
  await eventually('a report of its own has the event loop', () =>
    often.some(({ gauges }) =>
      gauges.some(([name]) => name === 'adapter_event_loop_utilization_ratio'),
    ),
  )
})

t.test('a cell goes on counting after what it counted was handed on', async (t) => {
  const recorder = new MetricRecorder()
  const cell = recorder.counter('adapter_upload_files_total', FILES)
  cell.add(1)
  recorder.take()
  cell.add(2)
  t.same(recorder.take().counters, [['adapter_upload_files_total', ['files'], 2]])
})

t.test(
  'label sets beyond the limit are counted together, and that they are is counted',
  async (t) => {
    const recorder = new MetricRecorder()
    for (let i = 0; i < MAX_LABEL_SETS + 50; i++)
      recorder.add('adapter_upload_files_total', { server_id: `s${i}` })
    const { counters } = recorder.take()
    const files = counters.filter(([name]) => name === 'adapter_upload_files_total')
    t.equal(files.length, MAX_LABEL_SETS + 1)
    t.same(files.at(-1), ['adapter_upload_files_total', ['overflow'], 50])
    t.same(
      counters.filter(([name]) => name === 'adapter_telemetry_label_overflow_total'),
      [['adapter_telemetry_label_overflow_total', ['adapter_upload_files_total'], 50]],
    )
  },
)

t.test('nothing is counted while telemetry is off', async (t) => {
  NOT_RECORDING.add('adapter_upload_files_total', FILES)
  NOT_RECORDING.set('adapter_workers_ready', {}, 1)
  NOT_RECORDING.observe('adapter_stream_takeover_duration_seconds', FILES, 1)
  NOT_RECORDING.counter('adapter_upload_files_total', FILES).add(1)
  NOT_RECORDING.histogram('adapter_stream_takeover_duration_seconds', FILES).observe(1)
  NOT_RECORDING.beforeReport(() => t.fail('nobody reports'))
  t.equal(NOT_RECORDING.isOn, false)
})

t.test('totals of several threads add up, and outlive the threads; gauges do not', async (t) => {
  const totals = new Totals(0)
  const delta = (amount: number, ready: number, leases: number) => {
    const recorder = new MetricRecorder()
    recorder.add('adapter_upload_files_total', FILES, amount)
    recorder.observe('adapter_stream_takeover_duration_seconds', FILES, amount)
    recorder.set('adapter_workers_ready', {}, ready)
    recorder.set('adapter_leases_held', { kind: 'stream' }, leases)
    return recorder.take()
  }
  totals.add('worker-0', delta(1, 2, 10))
  totals.add('worker-1', delta(4, 1, 5))
  totals.add('worker-1', delta(2, 1, 6))
  const value = (name: string): number | undefined =>
    [...totals.metrics()].find((metric) => metric.name === name)?.points[0]?.value
  t.equal(value('adapter_upload_files_total'), 7)
  t.equal(value('adapter_stream_takeover_duration_seconds'), 3)
  t.equal(value('adapter_workers_ready'), 2, 'the largest')
  t.equal(value('adapter_leases_held'), 16, 'the sum of what is now')
  totals.forgetGauges('worker-1')
  t.equal(value('adapter_upload_files_total'), 7)
  t.equal(value('adapter_leases_held'), 10)
  totals.add('worker-1', { counters: [['no_such_metric', [], 1]], histograms: [], gauges: [] })
  t.equal(value('no_such_metric'), undefined)
})

t.test('a value on a bound belongs to its bucket, one above all to the last', async (t) => {
  const recorder = new MetricRecorder()
  for (const value of [0, 0.001, 0.0011, 300, 301])
    recorder.observe('adapter_stream_takeover_duration_seconds', FILES, value)
  const [[, , counts, sum] = []] = recorder.take().histograms
  t.equal(counts?.length, 17)
  t.same([counts?.[0], counts?.[1], counts?.[15], counts?.[16]], [2, 1, 1, 1])
  t.equal(Number(sum?.toFixed(6)), 601.0021)
})

t.test('whatever a label holds, the text stays readable for Prometheus', async (t) => {
  const totals = new Totals(0)
  const recorder = new MetricRecorder()
  recorder.add('adapter_upload_files_total', { server_id: 'a"b\\c\nd} 1\n# TYPE x' })
  totals.add('worker-0', recorder.take())
  const text = renderExposition(totals.metrics())
  t.match(text, String.raw`{server_id="a\"b\\c\nd} 1\n# TYPE x"} 1`)
  const { code, output } = await promtool(['check', 'metrics'], text)
  t.equal(code, 0, output)
})

t.test('batches hold so many points and all of them, however they are cut', async (t) => {
  const totals = new Totals(1_500)
  const recorder = new MetricRecorder()
  for (let i = 0; i < 23; i++) recorder.add('adapter_upload_files_total', { server_id: `s${i}` })
  recorder.set('adapter_workers_ready', {}, 1)
  totals.add('worker-0', recorder.take())
  const options = { resource: { 'service.name': 'x' }, version: '1', batchSize: 10 }
  const batches = otlpBatches(totals, options, 2_250)
  t.same(
    batches.map(({ points }) => points),
    [10, 10, 4],
  )
  const names = batches.flatMap(({ content }) =>
    content.scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap(({ dataPoints }) =>
        dataPoints.map(({ attributes }) => String(attributes['server_id'])),
      ),
    ),
  )
  t.equal(new Set(names).size, 24)
  const [first] = batches
  t.match(first?.content.scopeMetrics[0]?.metrics[0]?.dataPoints[0], {
    startTime: [1, 500_000_000],
    endTime: [2, 250_000_000],
  })
})

/** A queue whose sending is in the test's hands. */
function heldQueue(maxPoints: number, dropsWhenFull: boolean) {
  const sent: string[] = []
  const dropped: [number, string][] = []
  const failed: number[] = []
  const waiting: { resolve: () => void; reject: (error: Error) => void }[] = []
  const queue = new ExportQueue<string>({
    maxPoints,
    dropsWhenFull,
    send: (content) => {
      sent.push(content)
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }))
    },
    onSent: () => {},
    onFailed: (_error, points) => failed.push(points),
    onDropped: (points, reason) => dropped.push([points, reason]),
  })
  return { queue, sent, dropped, failed, waiting }
}

const batch = (content: string, points = 10) => ({ content, points })

/** Lets what was settled go on. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

t.test('the oldest batches go when too many wait, one request at a time', async (t) => {
  const { queue, sent, dropped, waiting } = heldQueue(30, true)
  queue.offer([batch('a'), batch('b')])
  t.same(sent, ['a'])
  for (const content of ['c', 'd', 'e']) queue.offer([batch(content)])
  t.same(dropped, [
    [10, 'queue_full'],
    [10, 'queue_full'],
  ])
  t.equal(queue.points, 30)
  for (let i = 0; i < 3; i++) {
    waiting[i]?.resolve()
    // oxlint-disable-next-line no-await-in-loop -- one request after the other
    await turn()
  }
  t.same(sent, ['a', 'd', 'e'], 'the latest totals got there')
  t.equal(queue.points, 0)
})

t.test('a queue that drops nothing has room when nothing waits, or for what fits', async (t) => {
  const { queue, dropped } = heldQueue(30, false)
  t.equal(queue.hasRoomFor(1_000), true, 'else nothing would ever be sent')
  queue.offer([batch('a', 20)])
  t.equal(queue.hasRoomFor(10), true)
  t.equal(queue.hasRoomFor(11), false)
  t.same(dropped, [])
})

t.test('a failure is counted, and what waits behind it is sent', async (t) => {
  const { queue, sent, failed, waiting } = heldQueue(100, true)
  queue.offer([batch('a', 3), batch('b')])
  waiting[0]?.reject(new Error('no'))
  await turn()
  t.same(sent, ['a', 'b'])
  t.same(failed, [3])
  t.equal(queue.points, 10)
})

t.test('the end waits for what is under way, for a while', async (t) => {
  const { queue, dropped, waiting } = heldQueue(100, true)
  queue.offer([batch('a')])
  const drained = queue.drain(60_000)
  waiting[0]?.resolve()
  await drained
  t.same(dropped, [])
  queue.offer([batch('b'), batch('c')])
  await queue.drain(1)
  t.same(dropped, [[20, 'shutdown']])
})

t.test('trouble that repeats itself is told once a minute, with how often it came', async (t) => {
  let nowMs = 0
  const told: unknown[] = []
  const warnings = new RareWarnings(
    (message, details) => told.push([message, details]),
    () => nowMs,
  )
  for (let i = 0; i < 5; i++) warnings.warn('away', { reason: 'x' })
  warnings.warn('full', {})
  nowMs = 60_000
  warnings.warn('away', { reason: 'y' })
  t.same(told, [
    ['away', { reason: 'x' }],
    ['full', {}],
    ['away', { reason: 'y', repeated: 4 }],
  ])
})

t.test(
  'frames between threads are counted at both ends, past the largest number too',
  async (t) => {
    const memory = createTallyMemory()
    const primary = new FrameTally(memory, 'to_worker')
    const worker = new FrameTally(memory, 'to_primary')
    primary.sent(5)
    worker.taken(2)
    worker.sent(4)
    t.equal(primary.waiting('to_worker'), 3)
    t.equal(primary.waiting('to_primary'), 4)
    primary.taken(4)
    t.equal(worker.waiting('to_primary'), 0)
    worker.taken(3)
    primary.sent(2_147_483_647)
    t.equal(primary.waiting('to_worker'), 2_147_483_647)
    worker.taken(2_147_483_640)
    t.equal(primary.waiting('to_worker'), 7)
  },
)
