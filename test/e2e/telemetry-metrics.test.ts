/** Metrics as a collector gets them: real traffic, real protobuf, over HTTP and over gRPC. */
import { request as httpRequest } from 'node:http'

import t from 'tap'

import { METRIC_NAMES, METRICS, specOf } from '../../src/shared/telemetry/catalogue.ts'
import { eventually } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'
import { OtlpReceiver } from '../support/otlp-receiver.ts'
import { attributesOf } from '../support/otlp-proto.ts'
import { noteSecrets } from '../support/secret-scan.ts'
import { SHOWN_ELSEWHERE } from '../support/unseen-metrics.ts'

t.setTimeout(300_000)

const TOKEN = 'front-door-token-7f3a9c'
const COLLECTOR_KEY = 'collector-key-51bb0e'
noteSecrets([TOKEN, COLLECTOR_KEY])
const AUTH = { 'x-mcp-adapter-auth-token': TOKEN }

const receiver = await OtlpReceiver.http()
const rig = await FileRig.start({
  core: {
    workers: 2,
    auth: { enabled: true, tokens: [{ name: 'someone', token: TOKEN }] },
    cleanup_interval_seconds: 1,
  },
  uploads: { max_file_bytes: 1_000_000, ttl_seconds: 2 },
  sessions: { max_in_flight_per_session: 2, max_active: 50 },
  storage: { max_size: 5_000_000 },
  telemetry: {
    enabled: true,
    transport: 'http',
    endpoint: receiver.url,
    headers: { 'X-Collector-Key': COLLECTOR_KEY },
    export_interval_seconds: 1,
    periodic_flush_seconds: 1,
    queue_batch_size: 40,
    service_name: 'files-gateway',
    service_namespace: 'tests',
  },
})
t.teardown(async () => {
  await rig.stop()
  await receiver.stop()
})

/** Waits until a metric has at least this value. */
async function reaches(
  name: keyof typeof METRICS,
  labels: Readonly<Record<string, string>>,
  value = 1,
): Promise<void> {
  await eventually(
    `${name} ${JSON.stringify(labels)} is ${value}, not ${receiver.total(name, labels)}`,
    () => receiver.total(name, labels) >= value,
  )
}

const MCP = {
  server_id: 'files',
  'http.request.method': 'POST',
  'adapter.route_group': '/mcp/files',
  'http.response.status_code': '200',
  'http.response.status_class': '2xx',
} as const

t.test('requests, calls and sessions are counted by server, route and outcome', async (t) => {
  const session = await rig.openSession(AUTH)
  for (let i = 0; i < 3; i++) await rig.call(session, 'echo', { text: 'x' }, AUTH)
  await reaches('adapter_http_requests_total', MCP, 4)
  await reaches('adapter_http_request_duration_seconds', MCP, 4)
  const call = { server_id: 'files', tool_name: 'other', result: 'success' }
  await reaches('adapter_upstream_tool_calls_total', call, 3)
  await reaches('adapter_upstream_tool_call_duration_seconds', call, 3)
  await reaches('adapter_sessions_lifecycle_total', { server_id: 'files', event: 'created' })
  await reaches('adapter_sessions_lifecycle_total', { event: 'auth_context_bound' })
  await reaches('adapter_cache_requests_total', { cache: 'session', result: 'hit' }, 3)
  await rig.post({ jsonrpc: '2.0', id: 5, method: 'tools/list' }, session, AUTH)
  await rig.post({ jsonrpc: '2.0', id: 6, method: 'tools/list' }, session, AUTH)
  await reaches('adapter_cache_requests_total', { cache: 'tool_list', result: 'miss' })
  await reaches('adapter_store_operation_duration_seconds', {
    operation: 'openSession',
    result: 'success',
  })
  await fetch(`${rig.url}/mcp/files`, {
    method: 'DELETE',
    headers: { ...AUTH, 'mcp-session-id': session },
  })
  await reaches('adapter_sessions_lifecycle_total', { server_id: 'files', event: 'closed' })
  t.pass('all arrived')
})

t.test('uploads, their URLs, artifacts and downloads are counted', async (t) => {
  const session = await rig.openSession(AUTH)
  const url = await uploadUrl(session)
  const answer = await rig.put(url, 'hello')
  t.equal(answer.status, 200)
  await reaches('adapter_upload_batches_total', { server_id: 'files' })
  await reaches('adapter_upload_files_total', { server_id: 'files' })
  await reaches('adapter_upload_bytes_total', { server_id: 'files' }, 5)
  await reaches('adapter_upload_credentials_total', { operation: 'issue', result: 'issued' })
  await reaches('adapter_upload_credentials_total', { operation: 'validate', result: 'accepted' })
  await reaches('adapter_nonce_operations_total', { operation: 'consume', result: 'consumed' })
  t.equal((await rig.put(url, 'again')).status, 410)
  await reaches('adapter_upload_credentials_total', { result: 'replay_or_invalid' })
  await reaches('adapter_nonce_operations_total', { operation: 'check', result: 'replayed' })
  t.equal((await rig.put(`${await uploadUrl(session)}0`, 'x')).status, 403)
  await reaches('adapter_upload_failures_total', { reason: 'invalid_credential' }, 2)
  await reaches('adapter_auth_rejections_total', {
    reason: 'missing_or_invalid_signed_upload_credential',
    'adapter.route_group': '/upload/{server_id}',
  })
  t.equal((await fetch(`${rig.url}/upload/nobody`, { method: 'PUT', body: 'x' })).status, 404)
  await reaches('adapter_upload_failures_total', { server_id: 'unknown', reason: 'unknown_server' })

  const report = await rig.call(
    session,
    'write_report',
    { filename: 'out.txt', content: 'a report' },
    AUTH,
  )
  const download = /"download_url":"([^"]+)"/.exec(report.text)?.[1] ?? ''
  t.equal(await (await fetch(download)).text(), 'a report')
  const signed = { server_id: 'files', auth_mode: 'signed_url' }
  await reaches('adapter_artifact_downloads_total', { ...signed, result: 'success' })
  await reaches('adapter_artifact_download_bytes_total', { ...signed, result: 'success' }, 8)
  await reaches('adapter_artifact_download_duration_seconds', { ...signed, result: 'success' })
  t.equal((await fetch(download.replace(/sig=./, 'sig=_'))).status, 403)
  await reaches('adapter_artifact_downloads_total', { ...signed, result: 'refused' })
  await reaches('adapter_upstream_tool_calls_total', { tool_name: 'write_report' })
  // What was uploaded expires after two seconds, and maintenance runs every one.
  await reaches('adapter_cleanup_cycles_total', { status: 'ok' })
  await reaches('adapter_cleanup_removed_records_total', { bucket: 'uploads' })
})

t.test('what the store holds is shown, with what it may hold', async (t) => {
  const active = (): number => receiver.total('adapter_sessions', { standing: 'active' })
  const before = active()
  const session = await rig.openSession(AUTH)
  await eventually('one session more', () => active() === before + 1)
  t.equal((await rig.put(await uploadUrl(session), 'twelve bytes')).status, 200)
  await reaches('adapter_stored_files', { kind: 'upload' })
  await reaches('adapter_stored_bytes', { kind: 'kept' }, 12)
  await fetch(`${rig.url}/mcp/files`, {
    method: 'DELETE',
    headers: { ...AUTH, 'mcp-session-id': session },
  })
  await eventually('and one less', () => active() === before)
  t.equal(receiver.total('adapter_sessions_limit'), 50)
  t.equal(receiver.total('adapter_stored_limit_bytes'), 5_000_000)
})

t.test('what is in hand is counted, and no longer when its client leaves', async (t) => {
  const session = await rig.openSession(AUTH)
  const url = new URL(await uploadUrl(session))
  const request = httpRequest(url, { method: 'PUT', headers: { 'content-length': 900_000 } })
  request.on('error', () => undefined)
  request.write(Buffer.alloc(400_000))
  const inHand = (): number => receiver.total('adapter_http_requests_in_flight')
  await eventually('it is in hand', () => inHand() === 1)
  request.destroy()
  await eventually('it is not', () => inHand() === 0)
  await eventually(
    'and none of its bytes',
    () => receiver.total('adapter_bytes_in_flight', { kind: 'uploads' }) === 0,
  )
  await reaches('adapter_http_requests_total', {
    'http.request.method': 'PUT',
    'http.response.status_code': '499',
  })
  t.ok(receiver.metric('adapter_bytes_in_flight'))
})

t.test(
  'what is refused is counted with its reason, and never under what a client wrote',
  async (t) => {
    const marker = 'client-chosen-text-93c1'
    t.equal((await rig.post(INITIALIZE)).status, 401)
    await reaches('adapter_auth_rejections_total', {
      server_id: 'files',
      reason: 'invalid_adapter_auth_token',
      'adapter.route_group': '/mcp/files',
    })
    await reaches('adapter_request_rejections_total', {
      reason: 'unauthorized',
      'http.response.status_code': '401',
      'http.response.status_class': '4xx',
    })
    t.equal((await fetch(`${rig.url}/${marker}/${marker}?x=${marker}`)).status, 404)
    await reaches('adapter_request_rejections_total', {
      server_id: 'global',
      'adapter.route_group': 'other',
      reason: 'route_unknown',
    })
    await fetch(`${rig.url}/artifacts/${marker}/${marker}/x/y?mcp_artifact_sig=0`)
    await reaches('adapter_artifact_downloads_total', { server_id: 'unknown', result: 'not_found' })
    const gone = await rig.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, marker, AUTH)
    t.equal(gone.status, 404)
    await reaches('adapter_request_rejections_total', { reason: 'session_unknown' })
    const session = await rig.openSession(AUTH)
    await rig.call(session, marker, { [marker]: marker }, AUTH)
    await reaches('adapter_upstream_tool_calls_total', { tool_name: 'other' }, 4)
    await fetch(`${rig.url}/mcp/files`, { method: 'PATCH', headers: AUTH })
    await fetch(`${rig.url}/mcp/files`, { method: 'BREW', headers: AUTH }).catch(() => undefined)
    await reaches('adapter_http_requests_total', { 'http.request.method': 'PATCH' })
    t.notMatch(receiver.text, marker)
  },
)

t.test('the resource, the meter and the headers are as configured', async (t) => {
  await eventually('something came', () => receiver.names.length > 0)
  t.match(receiver.resource, {
    'service.name': 'files-gateway',
    'service.namespace': 'tests',
    'service.instance.id': /^[\w-]+$/,
    'service.version': /^\d+\.\d+\.\d+/,
  })
  t.match(receiver.scope, { name: 'remote_mcp_adapter', version: /^\d+\.\d+\.\d+/ })
  t.equal(receiver.path, '/v1/metrics')
  t.match(receiver.headers, {
    'x-collector-key': COLLECTOR_KEY,
    'content-type': 'application/x-protobuf',
  })
  t.ok(Math.max(...receiver.batchSizes) <= 40, 'batches have at most queue_batch_size points')
  t.ok(receiver.batchSizes.length > 1, 'and there are several')
})

t.test('every metric of the catalogue arrives, as the catalogue describes it', async (t) => {
  const unseen = new Set<string>(SHOWN_ELSEWHERE)
  const expected = METRIC_NAMES.filter((name) => !unseen.has(name))
  await eventually(
    'all arrived',
    () => expected.every((name) => receiver.metric(name) !== undefined),
    20_000,
  ).catch(() => undefined)
  const missing = expected.filter((name) => receiver.metric(name) === undefined)
  t.same(missing, [])
  for (const name of receiver.names) {
    t.ok(name in METRICS, `${name} is in the catalogue`)
    const { metric, points = new Map() } = receiver.metric(name) ?? {}
    const spec = specOf(name as keyof typeof METRICS)
    t.match(metric, { description: spec.description, unit: spec.unit }, name)
    t.ok(metric?.[spec.kind === 'counter' ? 'sum' : spec.kind], `${name} is a ${spec.kind}`)
    if (spec.kind !== 'gauge')
      t.equal((metric?.sum ?? metric?.histogram)?.aggregationTemporality, 2, `${name}: cumulative`)
    if (spec.kind === 'counter') t.equal(metric?.sum?.isMonotonic, true, `${name}: monotonic`)
    for (const { attributes, bucketCounts, explicitBounds } of points.values()) {
      const labels = attributesOf(attributes)
      t.same(Object.keys(labels), Object.keys(spec.labels), `labels of ${name}`)
      for (const [label, values] of Object.entries(spec.labels)) {
        if (!Array.isArray(values)) continue
        t.ok(values.includes(labels[label]), `${name}: ${label}=${labels[label]}`)
      }
      if (spec.kind === 'histogram')
        t.equal(bucketCounts?.length, (explicitBounds?.length ?? 0) + 1)
    }
  }
  t.same(receiver.fallen, [], 'what may only grow only grew')
})

t.test('no secret is in any label or header but the configured one', async (t) => {
  for (const secret of [TOKEN, COLLECTOR_KEY, 'mcp_upload_sig', 'mcp_upload_nonce'])
    t.notMatch(receiver.text, secret)
})

async function uploadUrl(session: string): Promise<string> {
  const answer = await rig.call(session, 'files_get_upload_url', {}, AUTH)
  return /"upload_url":"([^"]+)"/.exec(answer.text)?.[1] ?? ''
}

t.test('the last counts are exported when the process is told to stop', async (t) => {
  const collector = await OtlpReceiver.grpc()
  t.teardown(() => collector.stop())
  const stopped = await FileRig.start({
    core: { workers: 1 },
    telemetry: {
      enabled: true,
      endpoint: collector.url,
      headers: { 'x-collector-key': COLLECTOR_KEY },
      // Nothing is exported before the stop.
      export_interval_seconds: 3_600,
      periodic_flush_seconds: 3_600,
    },
  })
  const session = await stopped.openSession()
  await stopped.call(session, 'echo', { text: 'x' })
  t.equal(collector.requests, 0)
  t.equal(await stopped.stop(), 0)
  t.equal(collector.total('adapter_upstream_tool_calls_total', { result: 'success' }), 1)
  t.ok(collector.total('adapter_http_requests_total', { 'adapter.route_group': '/mcp/files' }) >= 3)
  t.match(collector.headers, { 'x-collector-key': COLLECTOR_KEY })
  t.match(collector.scope, { name: 'remote_mcp_adapter' })
})

t.test(
  'with flush_on_shutdown and flush_on_terminate off nothing is exported at the end',
  async (t) => {
    const collector = await OtlpReceiver.http()
    t.teardown(() => collector.stop())
    const stopped = await FileRig.start({
      core: { workers: 1 },
      telemetry: {
        enabled: true,
        transport: 'http',
        endpoint: collector.url,
        export_interval_seconds: 3_600,
        flush_on_shutdown: false,
        flush_on_terminate: false,
      },
    })
    await stopped.openSession()
    t.equal(await stopped.stop(), 0)
    t.equal(collector.requests, 0)
  },
)
