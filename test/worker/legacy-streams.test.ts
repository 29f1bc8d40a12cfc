// The endpoint for clients of the HTTP+SSE transport by itself: its caps, its clock, and what an unexpected failure behind it does.
import { mock } from 'node:test'

import t from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import type { Log } from '../../src/shared/log.ts'
import type { Exchange } from '../../src/worker/exchange/exchange.ts'
import { fail } from '../../src/worker/exchange/failure.ts'
import { InnerExchange } from '../../src/worker/legacy-sse/inner-exchange.ts'
import type { InnerEnd, InnerListener } from '../../src/worker/legacy-sse/inner-exchange.ts'
import { LegacyEndpoint } from '../../src/worker/legacy-sse/legacy-endpoint.ts'
import type { LegacyEndpointOptions } from '../../src/worker/legacy-sse/legacy-endpoint.ts'
import { load, SERVERS } from '../shared/config-loading.ts'

const quiet = (): void => {}
// The four are all that the endpoint uses.
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet } as unknown as Log

/** A request of a client, and what came of it. */
class Asked {
  readonly exchange: InnerExchange
  end: InnerEnd | undefined
  /** The data of its events, where it is a stream. */
  readonly data: string[] = []
  /** What was counted. */
  readonly refusals: string[] = []

  constructor(route: 'sse' | 'messages', target: string, message: object | null) {
    const request = {
      route,
      serverIndex: 0,
      method: message === null ? 'GET' : 'POST',
      target,
      headers: [],
      body: message === null ? null : JSON.stringify(message),
      principal: '',
    }
    const listener: InnerListener = {
      head: () => {},
      message: (data) => {
        this.data.push(Buffer.from(data).toString('utf8'))
        return true
      },
      over: (end) => {
        this.end = end
      },
    }
    this.exchange = new InnerExchange(request, 1_048_576, listener, ({ code }) =>
      this.refusals.push(code),
    )
  }

  /** Status of a whole answer. */
  get status(): number | undefined {
    return this.end?.kind === 'whole' ? this.end.status : undefined
  }

  get text(): string {
    return this.end?.kind === 'whole' ? Buffer.from(this.end.body).toString('utf8') : ''
  }
}

function endpointWith(endpoint: LegacyEndpointOptions['endpoint']): LegacyEndpoint {
  const config = load(SERVERS)
  const [server] = config.servers
  if (server === undefined) throw new Error('a configuration has its server')
  return new LegacyEndpoint({
    postElsewhere: () => t.fail('there is no other replica'),
    server,
    config,
    endpoint,
    registry: { peek: () => undefined },
    replicaId: 'r'.repeat(16),
    placement: { index: 0, workers: 1 },
    log,
  })
}

const endSession = async (): Promise<void> => {}

function connect(endpoint: LegacyEndpoint): Asked {
  const stream = new Asked('sse', '/mcp/files/sse', null)
  endpoint.handle(stream.exchange)
  return stream
}

function post(endpoint: LegacyEndpoint, stream: Asked, message: object): Asked {
  const posted = new Asked('messages', stream.data[0] ?? '', message)
  endpoint.handle(posted.exchange)
  return posted
}

t.test('streams that are not initialised are capped, and ended after a minute', (t) => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.teardown(() => mock.timers.reset())
  const endpoint = endpointWith({ handle: () => {}, endSession })
  const streams = Array.from({ length: 1_024 }, () => connect(endpoint))
  t.ok(streams.every(({ end }) => end === undefined))
  const refused = connect(endpoint)
  t.equal(refused.status, 503)
  t.match(refused.text, 'ADAPTER_OVERLOADED')

  const [first, second] = streams
  if (first === undefined || second === undefined) throw new Error('there are so many')
  post(endpoint, first, { jsonrpc: '2.0', id: 1, method: 'initialize' })
  mock.timers.tick(60_000)
  t.equal(second.end?.kind, 'stream', 'the silent ones are over')
  t.equal(first.end, undefined, 'one that is being initialised is not')
  t.equal(post(endpoint, second, { jsonrpc: '2.0', method: 'x' }).status, 404)
  t.equal(connect(endpoint).end, undefined, 'there is room again')
  t.end()
})

t.test('POSTs under way are capped, whatever is in them', (t) => {
  const underWay: Exchange[] = []
  const endpoint = endpointWith({ handle: (inner) => void underWay.push(inner), endSession })
  const stream = connect(endpoint)
  for (let sent = 0; sent < 1_024; sent++)
    if (post(endpoint, stream, { jsonrpc: '2.0', method: 'x' }).status !== 202) t.fail('refused')
  const refused = post(endpoint, stream, { jsonrpc: '2.0', id: 5, method: 'tools/list' })
  t.equal(refused.status, 503)
  t.match(JSON.parse(refused.text), { id: 5, error: { data: { code: 'ADAPTER_OVERLOADED' } } })
  underWay[0]?.respond(202, [])
  t.equal(post(endpoint, stream, { jsonrpc: '2.0', method: 'x' }).status, 202)
  stream.exchange.abort()
  t.ok(
    underWay.every(({ isOpen }) => !isOpen),
    'a client that leaves takes all of it along',
  )
  t.end()
})

t.test('a refusal is counted once, as one of the POST that it answers', (t) => {
  const underWay: Exchange[] = []
  const endpoint = endpointWith({ handle: (inner) => void underWay.push(inner), endSession })
  const stream = connect(endpoint)
  const posted = post(endpoint, stream, { jsonrpc: '2.0', id: 7, method: 'tools/list' })
  const [inner] = underWay
  if (inner === undefined) throw new Error('it was sent')
  fail(inner, new AdapterError('ADAPTER_UPSTREAM_DOWN', 'down'), 7)
  t.match(stream.data.at(-1), /ADAPTER_UPSTREAM_DOWN/, 'told on the stream')
  t.same(posted.refusals, ['ADAPTER_UPSTREAM_DOWN'])
  t.same(stream.refusals, [])
  stream.exchange.abort()
  t.end()
})

t.test('an unexpected failure is the answer of its own POST, and says nothing', (t) => {
  const endpoint = endpointWith({
    handle: () => {
      throw new Error('a secret of the inside')
    },
    endSession,
  })
  const stream = connect(endpoint)
  const failed = post(endpoint, stream, { jsonrpc: '2.0', id: 6, method: 'tools/list' })
  t.equal(failed.status, 500)
  t.match(failed.text, 'ADAPTER_INTERNAL')
  t.notMatch(failed.text, /secret/)
  t.equal(stream.end, undefined, 'the stream goes on')
  t.end()
})

t.test('a session that does not end in time keeps no stop waiting', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const ended: string[] = []
  const endpoint = endpointWith({
    handle: (inner) => {
      inner.begin(200, ['content-type', 'application/json', 'mcp-session-id', 'its-session'])
      inner.write(Buffer.from('{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}'))
      inner.end()
    },
    endSession: (sessionId) => {
      ended.push(sessionId)
      return new Promise(() => {})
    },
  })
  const stream = connect(endpoint)
  post(endpoint, stream, { jsonrpc: '2.0', id: 1, method: 'initialize' })
  t.match(stream.data[1], /protocolVersion/)
  const stopped = endpoint.stop()
  t.equal(stream.end?.kind, 'stream')
  mock.timers.tick(5_000)
  await stopped
  t.same(ended, ['its-session'])
})
