// One worker's guard of an upstream: what its listeners are told, when it pings, and what it lets pass.
import t from 'tap'
import type { Test } from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import { openLog } from '../../src/shared/log.ts'
import { Redactor } from '../../src/shared/redaction.ts'
import { UpstreamVitals } from '../../src/shared/upstream-vitals.ts'
import type {
  AnswerListener,
  Upstream,
  UpstreamCall,
  UpstreamRequest,
} from '../../src/worker/upstream/upstream.ts'
import { UpstreamGuard } from '../../src/worker/upstream/upstream-guard.ts'
import { load } from '../shared/config-loading.ts'
import { eventually } from '../support/eventually.ts'
import { post, Witness } from './upstream-fixture.ts'

/** Keeps calls until the test has them answered, and answers pings as the test says. */
class HandMade implements Upstream {
  readonly calls: AnswerListener[] = []
  pings = 0
  aborts = 0
  /** Whether anything of a request leaves. */
  hasLeft: boolean | undefined
  ping: () => Promise<void> = () => Promise.resolve()

  call(_request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    this.calls.push(listener)
    return {
      ...(this.hasLeft === undefined ? {} : { hasLeft: this.hasLeft }),
      abort: () => {
        this.aborts++
      },
      pause: () => {},
      resume: () => {},
    }
  }

  probe(): Promise<void> {
    this.pings++
    return this.ping()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

interface GuardSettings {
  readonly ping?: string
  readonly upstream?: string
  readonly worker?: number
  readonly isStart?: boolean
}

/** `instead`: what is guarded in place of a `HandMade`. */
function guarded(test: Test, settings: GuardSettings = {}, instead?: Upstream) {
  const { ping = '{}', upstream = '', worker = 0, isStart = true } = settings
  const config = load(`
core: {max_start_wait_seconds: 60}
servers: [{id: one, mount_path: /one, upstream: {url: "http://u.internal"${upstream}}, upstream_ping: ${ping}}]
`)
  const [server] = config.servers
  if (server === undefined) throw new Error('there is one')
  const numbers = { servers: 1, workers: 2 }
  const { memory } = new UpstreamVitals(numbers)
  const told: string[] = []
  const guard = new UpstreamGuard({
    config,
    worker,
    workers: 2,
    memory,
    isStart,
    log: openLog('critical', 'test', new Redactor({ values: [] })),
    eventsOf: ({ id }) => ({
      onPing: (outcome) => told.push(`${id}: ping ${outcome.failure ?? 'ok'}`),
      onTransition: (from, to) => told.push(`${id}: ${from} > ${to}`),
      onRefused: (reason) => told.push(`${id}: ${reason}`),
    }),
  })
  test.teardown(() => guard.stop())
  const bare = new HandMade()
  const outer = guard.guard(server, 0, instead ?? bare)
  return { guard, bare, outer, told, vitals: new UpstreamVitals(numbers, memory).server(0) }
}

const unreachable = (): AdapterError => new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', 'no')

t.test('pings, changes and refusals are told', async (test) => {
  const { guard, bare, outer, told } = guarded(test)
  guard.start()
  await eventually('the ping is told', () => told.length === 1)
  bare.hasLeft = false
  for (let n = 0; n < 3; n++) {
    const witness = new Witness()
    outer.call(post(), witness)
    bare.calls.at(-1)?.error(unreachable())
    test.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  }
  const refused = new Witness()
  outer.call(post(), refused)
  test.equal(refused.errors.length, 0, 'never before the call returns')
  await refused.over
  test.equal(refused.code, 'ADAPTER_UPSTREAM_DOWN')
  test.same(told, ['one: ping ok', 'one: closed > open', 'one: breaker_open'])
})

t.test('before it opens by requests that reached the upstream, that is pinged', async (test) => {
  const { bare, outer, told, vitals } = guarded(test)
  bare.hasLeft = true
  const fail = (end: (listener: AnswerListener | undefined) => void): void => {
    for (let n = 0; n < 3; n++) {
      outer.call(post(), new Witness())
      end(bare.calls.at(-1))
    }
  }
  fail((listener) => listener?.head(500, []))
  await eventually('it is asked', () => told.length === 1)
  fail((listener) => listener?.error(unreachable()))
  await eventually('it is asked again', () => told.length === 2)
  for (let n = 0; n < 3; n++) outer.call(post(), new Witness()).abort(0)
  await eventually('and again', () => told.length === 3)
  test.same(told, ['one: ping ok', 'one: ping ok', 'one: ping ok'])
  test.match(vitals.report(), { state: 'closed', failures: 0 })
  bare.ping = () => Promise.reject(unreachable())
  fail((listener) => listener?.head(500, []))
  await eventually('it opens', () => vitals.state === 'open')
  test.equal(bare.pings, 4)
})

t.test('one that can not be pinged in the background is tried when it fails', async (test) => {
  const bare = new HandMade()
  let trials = 0
  const { outer, vitals } = guarded(
    test,
    {},
    {
      call: bare.call.bind(bare),
      close: bare.close.bind(bare),
      trial: async () => {
        trials++
        throw unreachable()
      },
    },
  )
  for (let n = 0; n < 3; n++) {
    outer.call(post(), new Witness())
    bare.calls.at(-1)?.head(500, [])
  }
  await eventually('it opens', () => vitals.state === 'open')
  test.equal(trials, 1)
  test.equal(vitals.isProbed, false)
})

t.test('a stop while the upstream is asked opens nothing', async (test) => {
  const { guard, bare, outer, vitals } = guarded(test)
  const refusals: ((error: AdapterError) => void)[] = []
  bare.ping = () => new Promise((_resolve, reject) => refusals.push(reject))
  for (let n = 0; n < 3; n++) {
    outer.call(post(), new Witness())
    bare.calls.at(-1)?.head(500, [])
  }
  await eventually('it is asked', () => bare.pings === 1)
  guard.stop()
  for (const refuse of refusals) refuse(unreachable())
  await new Promise((resolve) => setImmediate(resolve))
  test.equal(vitals.state, 'closed')
})

t.test('what is said on this side for the upstream is no sign of it', (test) => {
  const { bare, outer, vitals } = guarded(test)
  const call = (): [UpstreamCall, AnswerListener | undefined] => [
    outer.call(post(), new Witness()),
    bare.calls.at(-1),
  ]
  const [, taken] = call()
  taken?.head(202, [], true)
  taken?.end()
  const [, refused] = call()
  refused?.head(404, [], true)
  refused?.data(Buffer.from('{}'))
  refused?.end()
  test.equal(vitals.hasAnswered, false)
  const [hanging, begun] = call()
  begun?.head(200, [], true)
  hanging.abort(0)
  test.equal(vitals.report().failures, 1, 'a stream that was begun for it, and remained empty')
  const [, broken] = call()
  broken?.head(200, [], true)
  broken?.error(unreachable())
  test.equal(vitals.report().failures, 2)
  const [answered, streaming] = call()
  streaming?.head(200, [], true)
  streaming?.data(Buffer.from('data: {}\n\n'))
  test.match(vitals.report(), { failures: 0, hasAnswered: true })
  answered.abort(0)
  test.match(vitals.report(), { failures: 0, inFlight: 0 })
  test.end()
})

t.test('while it is open only new requests are refused', async (test) => {
  const { bare, outer, vitals } = guarded(test)
  vitals.openForMs = 60_000
  vitals.change('closed', 'open')
  for (const request of [
    post({ method: 'GET', body: null }),
    post({ method: 'DELETE', body: null }),
    post({ isFollowUp: true }),
  ]) {
    const { length } = bare.calls
    outer.call(request, new Witness())
    test.equal(bare.calls.length, length + 1, request.method)
  }
  const withdrawn = new Witness()
  outer.call(post(), withdrawn).abort()
  await new Promise((resolve) => setImmediate(resolve))
  test.equal(withdrawn.errors.length, 0, 'nothing is told after an abort')
})

t.test('a request that is over is counted out once, however often it ends', (test) => {
  const { bare, outer, vitals } = guarded(test)
  const call = outer.call(post(), new Witness())
  outer.call(post(), new Witness())
  test.equal(vitals.inFlight, 2)
  const [first] = bare.calls
  first?.head(200, [])
  first?.end()
  first?.error(unreachable())
  call.abort()
  test.equal(vitals.inFlight, 1)
  test.equal(vitals.report().failures, 0, 'what comes after the head says nothing')
  test.end()
})

t.test(
  'an upstream that is not there yet is asked again soon, and fails once at most',
  async (test) => {
    const { guard, bare, vitals, told } = guarded(test)
    bare.ping = () => Promise.reject(unreachable())
    guard.start()
    await eventually('it is asked several times', () => bare.pings >= 4)
    test.equal(vitals.report().failures, 1)
    test.equal(vitals.hasAnswered, false)
    bare.ping = () => Promise.resolve()
    await eventually('it has answered', () => vitals.hasAnswered)
    test.equal(vitals.report().failures, 0)
    test.equal(told.at(-1), 'one: ping ok')
  },
)

t.test('one worker pings, and a worker that is started again does not wait', async (test) => {
  const other = guarded(test, { worker: 1 })
  other.guard.start()
  const again = guarded(test, { isStart: false })
  again.bare.ping = () => Promise.reject(unreachable())
  again.guard.start()
  await eventually('the first has pinged', () => again.told.length === 1)
  test.equal(other.bare.pings, 0)
  test.equal(again.vitals.isProbed, true)
  test.equal(again.vitals.report().failures, 1)
})

t.test('what is off costs nothing: the upstream is handed out as it is', (test) => {
  const { outer, bare } = guarded(test, {
    ping: '{enabled: false}',
    upstream: ', max_in_flight: null',
  })
  test.equal(outer, bare)
  test.end()
})

t.test('an upstream that can not be pinged is neither pinged nor waited for', (test) => {
  const bare = new HandMade()
  const { guard, vitals } = guarded(
    test,
    {},
    { call: bare.call.bind(bare), close: bare.close.bind(bare) },
  )
  guard.start()
  test.equal(vitals.isProbed, false)
  test.end()
})
