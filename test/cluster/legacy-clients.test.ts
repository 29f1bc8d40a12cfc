/** Clients of the HTTP+SSE transport whose messages come to another replica than the one that has their stream. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import type { ClusterReplica } from '../support/cluster.ts'
import { eventually, within } from '../support/eventually.ts'
import { LegacyWire } from '../support/legacy-client.ts'
import { startOtlpCollector } from '../support/otlp-collector.ts'
import { noted } from '../support/secret-scan.ts'
import { shown } from '../support/shown-metrics.ts'
import { stdioSection } from '../support/upstreams/stdio/stdio-section.ts'
import { send } from '../support/wire.ts'
import type { WireAnswer } from '../support/wire.ts'

t.setTimeout(600_000)

const ALICE = { 'x-mcp-adapter-auth-token': noted('the-token-of-alice-here') }
const BOB = { 'x-mcp-adapter-auth-token': noted('the-token-of-bob-here') }

t.test(
  'messages reach the stream of their client from any replica, and only its own',
  async (t) => {
    const workspace = await mkdtemp(join(tmpdir(), 'adapter-legacy-'))
    t.teardown(() => rm(workspace, { recursive: true, force: true, maxRetries: 5 }))
    const tokens = [ALICE, BOB].map((headers, index) => ({
      name: `client-${index}`,
      token: headers['x-mcp-adapter-auth-token'],
    }))
    const cluster = await startCluster(t, {
      replicas: 2,
      core: { workers: 2, auth: { enabled: true, tokens } },
      servers: () => [stdioSection('files', { workspace })],
    })
    const [a, b] = cluster.replicas
    if (a === undefined || b === undefined) throw new Error('two replicas')
    const client = await LegacyWire.open(`${a.url}/mcp/files`, ALICE)
    const post = (
      replica: ClusterReplica,
      message: object,
      headers: Readonly<Record<string, string>> = ALICE,
    ): Promise<WireAnswer> => {
      const { pathname, search } = new URL(client.endpoint)
      return send(`${replica.url}${pathname}${search}`, {
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ jsonrpc: '2.0', ...message }),
      })
    }
    const answered = (id: string): Promise<void> =>
      eventually(`${id} is answered`, () => client.messages().some((message) => message.id === id))

    const params = {
      protocolVersion: '2024-11-05',
      capabilities: {},
      clientInfo: { name: 'legacy', version: '1' },
    }
    t.equal((await post(b, { id: 'first', method: 'initialize', params })).status, 202)
    await answered('first')
    t.equal((await post(a, { method: 'notifications/initialized' })).status, 202)
    t.equal((await post(b, { id: 'second', method: 'tools/list' })).status, 202)
    await answered('second')

    const strangers = await post(b, { id: 'third', method: 'tools/list' }, BOB)
    t.equal(strangers.status, 404, 'the stream of somebody else is unknown')
    t.equal((await post(b, { id: 'fourth', method: 'tools/list' }, {})).status, 401)
    t.notOk(client.messages().some(({ id }) => id === 'third' || id === 'fourth'))

    await a.kill()
    const late = await within('an answer', post(b, { id: 'fifth', method: 'tools/list' }))
    t.equal(late.status, 404, 'the stream ended with its replica')
    t.match(late.body, /ADAPTER_SESSION_UNKNOWN/)
  },
)

t.test('messages through another replica are counted and named as their own', async (t) => {
  const workspace = await mkdtemp(join(tmpdir(), 'adapter-legacy-'))
  t.teardown(() => rm(workspace, { recursive: true, force: true, maxRetries: 5 }))
  const collector = await startOtlpCollector()
  t.teardown(() => collector.stop())
  const cluster = await startCluster(t, {
    replicas: 2,
    servers: () => [stdioSection('files', { workspace })],
    sections: {
      telemetry: {
        enabled: true,
        transport: 'http',
        periodic_flush_seconds: 1,
        prometheus: { enabled: true },
        traces: {
          enabled: true,
          endpoint: `${collector.url}/v1/traces`,
          schedule_delay_millis: 50,
        },
      },
    },
  })
  const [a, b] = cluster.replicas
  if (a === undefined || b === undefined) throw new Error('two replicas')
  const client = await LegacyWire.open(`${a.url}/mcp/files`)
  await client.initialize()
  const { pathname, search } = new URL(client.endpoint)
  const post = (body: string, requestId: string): Promise<WireAnswer> =>
    send(`${b.url}${pathname}${search}`, {
      headers: { 'content-type': 'application/json', 'x-request-id': requestId },
      body,
    })

  const call = { jsonrpc: '2.0', id: 'far', method: 'tools/call', params: { name: 'process' } }
  const taken = await post(JSON.stringify(call), 'the-name-of-the-call')
  t.same([taken.status, taken.headers['x-request-id']], [202, 'the-name-of-the-call'])
  await eventually('the holder traces it under its name', () =>
    collector.spans.some(
      ({ attributes }) =>
        attributes['mcp.method.name'] === 'tools/call' &&
        attributes['adapter.request_id'] === 'the-name-of-the-call',
    ),
  )

  const refused = await post('{"jsonrpc":', 'the-name-of-nonsense')
  t.same([refused.status, refused.headers['x-request-id']], [400, 'the-name-of-nonsense'])
  const missing = await post(
    JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize' }),
    'the-name-of-the-second',
  )
  t.equal(missing.status, 400, 'it is initialised already')
  const counted = async (): Promise<number[]> =>
    Promise.all(
      [a, b].map(({ url }) =>
        shown(
          url,
          'adapter_request_rejections_total',
          'server_id="files"',
          'http_response_status_code="400"',
        ),
      ),
    )
  await eventually('both are counted', async () => (await counted()).reduce((x, y) => x + y) >= 2)
  t.same(await counted(), [2, 0], 'where they were refused, and once')

  await a.kill()
  const late = await within('an answer', post('{"jsonrpc":"2.0","id":2,"method":"ping"}', 'late'))
  t.equal(late.status, 404)
  await eventually(
    'that its stream is gone is counted here',
    async () =>
      (await shown(
        b.url,
        'adapter_request_rejections_total',
        'server_id="files"',
        'http_response_status_code="404"',
      )) === 1,
  )
})
