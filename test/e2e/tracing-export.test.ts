// The export of traces: what is sampled, the transports, and collectors that do not do their part.
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startOtlpCollector } from '../support/otlp-collector.ts'
import type { Mood } from '../support/otlp-collector.ts'
import { COLLECTOR_KEY, startTracing } from '../support/traced-replica.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { WireSession } from '../support/wire.ts'

t.setTimeout(300_000)

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const SAMPLED = `00-${TRACE}-${PARENT}-01`

const collector = await startOtlpCollector()
const upstream = await startScriptedUpstream()
const upstreams = { scripted: upstream.url }
t.teardown(async () => {
  await upstream.stop()
  await collector.stop()
})

t.test('the share decides alone where clients are not to', async (t) => {
  const none = await startTracing(upstreams, collector, { sample_ratio: 0, parent_based: false })
  t.teardown(() => none.stop())
  const session = await WireSession.open(`${none.url}/mcp/scripted`)
  const traceId = TRACE
  await session.post(session.message('tools/call', { name: 'share' }), {
    traceparent: `00-${traceId}-${PARENT}-01`,
  })
  await session.call('rootless')
  t.match(
    upstream.requests('tools/call share')[0]?.headers['traceparent'],
    new RegExp(`^00-${traceId}-(?!${PARENT})[0-9a-f]{16}-00$`),
    'the upstream hears that nobody records it',
  )
  t.match(upstream.requests('tools/call rootless')[0]?.headers['traceparent'], /-00$/)
  await none.stop()
  t.equal(
    collector.spans.some((span) => span.traceId === traceId),
    false,
  )
})

t.test('without traces, contexts pass untouched', async (t) => {
  const plain = await startTracing(upstreams, collector, { enabled: false })
  t.teardown(() => plain.stop())
  const session = await WireSession.open(`${plain.url}/mcp/scripted`)
  const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"off","_meta":{"traceparent":"${SAMPLED}"}}}`
  await session.post(body, { traceparent: SAMPLED, tracestate: 'a=1' })
  const [sent] = upstream.requests('tools/call off')
  t.match(sent, { body, headers: { traceparent: SAMPLED, tracestate: 'a=1' } })
})

t.test('spans go over gRPC, and the last ones at the stop', async (t) => {
  const grpc = await startTracing(
    upstreams,
    collector,
    { endpoint: collector.grpcTarget, schedule_delay_millis: 600_000 },
    { transport: 'grpc' },
  )
  const session = await WireSession.open(`${grpc.url}/mcp/scripted`)
  const traceId = `${TRACE.slice(1)}f`
  await session.post(session.message('ping'), { traceparent: `00-${traceId}-${PARENT}-01` })
  t.equal(await grpc.stop(), 0)
  const span = collector.spans.find((one) => one.traceId === traceId)
  t.match(span, { name: 'ping', parentSpanId: PARENT })
  t.equal(collector.headers.at(-1)?.['x-collector-key'], COLLECTOR_KEY)
})

for (const transport of ['http', 'grpc'] as const) {
  const moods = transport === 'http' ? ['dead', 'hangs', 'fails', 'garbage'] : ['dead', 'hangs']
  for (const mood of moods) {
    t.test(`a collector that ${mood} (${transport}) is not felt by calls`, async (t) => {
      const bad = await startOtlpCollector()
      if (mood === 'dead') await bad.stop()
      else {
        bad.mood = mood as Mood // one of those above
        t.teardown(() => bad.stop())
      }
      const target = transport === 'grpc' ? bad.grpcTarget : `${bad.url}/v1/traces`
      const traces = {
        endpoint: target,
        export_timeout_millis: 300,
        max_queue_size: 5,
        max_export_batch_size: 2,
      }
      const adapter = await startTracing(upstreams, bad, traces, {
        transport,
        shutdown_drain_timeout_seconds: 1,
      })
      const session = await WireSession.open(`${adapter.url}/mcp/scripted`)
      for (let i = 0; i < 40; i++) {
        const answer = await within('a call is answered', session.call('free'), 5_000)
        if (answer.status !== 200) t.fail(answer.body)
      }
      // What came is no OTLP, but whoever sent it took the spans.
      if (mood !== 'garbage')
        await eventually('it is said', () => adapter.logs().includes('can not be exported'))
      t.equal(await within('the adapter stops', adapter.stop(), 15_000), 0)
    })
  }
}
