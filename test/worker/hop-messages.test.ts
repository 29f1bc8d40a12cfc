/** A message of a legacy client that is handed to who holds its stream, and what becomes of it where nobody answers. */
import { mock } from 'node:test'

import t from 'tap'
import type { Test } from 'tap'

import type { AdapterError } from '../../src/shared/errors.ts'
import { mintReplicaId } from '../../src/shared/ids.ts'
import { InnerExchange } from '../../src/worker/legacy-sse/inner-exchange.ts'
import type { InnerEnd } from '../../src/worker/legacy-sse/inner-exchange.ts'
import { handOver } from '../../src/worker/hop/handed-over-post.ts'
import { answerLost } from '../../src/worker/hop/lost-session.ts'
import type { AnswerListener } from '../../src/worker/upstream/upstream.ts'

/** Hands one over; the test answers for the holder. */
function handing(t: Test, limitSeconds: number | null) {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const ends: InnerEnd[] = []
  const refusals: string[] = []
  const asked: AnswerListener[] = []
  let aborts = 0
  const exchange = new InnerExchange(
    {
      route: 'messages',
      serverIndex: 0,
      method: 'POST',
      target: '/mcp/x/messages?sessionId=s',
      headers: [],
      body: '{}',
      principal: '',
    },
    1_048_576,
    { head: () => {}, message: () => true, over: (end) => ends.push(end) },
    ({ code }: AdapterError) => refusals.push(code),
  )
  const hop = {
    forward: (...[, , , listener]: [unknown, unknown, unknown, AnswerListener]) => {
      asked.push(listener)
      return { abort: () => aborts++, pause: () => {}, resume: () => {} }
    },
  }
  const place = { replicaId: mintReplicaId(), worker: 0 }
  handOver(hop, place, { id: 'x', toolCallTimeoutSeconds: limitSeconds }, exchange)
  const [listener] = asked
  if (listener === undefined) throw new Error('it is handed over')
  return { ends, refusals, listener, aborts: () => aborts }
}

t.test('it is waited for as long as the server says', (t) => {
  const { ends, refusals, aborts } = handing(t, 120)
  mock.timers.tick(119_999)
  t.same(ends, [])
  mock.timers.tick(1)
  t.match(ends, [{ kind: 'whole', status: 504 }])
  t.same(refusals, ['ADAPTER_UPSTREAM_TIMEOUT'])
  t.equal(aborts(), 1)
  t.end()
})

t.test('without a limit it is waited for until the holder is gone', (t) => {
  const { ends, refusals, listener } = handing(t, null)
  mock.timers.tick(1_000_000_000)
  t.same(ends, [])
  answerLost(listener, () => true)
  t.match(ends, [{ kind: 'whole', status: 404 }])
  t.same(refusals, ['ADAPTER_SESSION_UNKNOWN'], 'which is an answer of ours')
  t.end()
})

t.test('what the holder refuses it counts itself', (t) => {
  const { ends, refusals, listener } = handing(t, 60)
  listener.head(400, ['content-type', 'application/json'])
  listener.data(Buffer.from('{}'))
  listener.end()
  t.match(ends, [{ kind: 'whole', status: 400 }])
  t.same(refusals, [])
  mock.timers.tick(60_000)
  t.equal(ends.length, 1)
  t.end()
})
