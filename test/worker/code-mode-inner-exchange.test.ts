/** The client's end of a request that code mode makes: it lets go of what it has the answer of. */
import t from 'tap'

import { InnerExchange } from '../../src/worker/code-mode/inner-exchange.ts'
import type { InnerAnswer } from '../../src/worker/code-mode/inner-exchange.ts'
import { eventually } from '../support/eventually.ts'

const ID = 'code-mode-1'
const ANSWER = { jsonrpc: '2.0', id: ID, result: { content: [] } }

function asked(): { exchange: InnerExchange; answers: InnerAnswer[]; cuts: () => number } {
  const answers: InnerAnswer[] = []
  let cuts = 0
  const exchange = new InnerExchange({
    request: {
      route: 'mcp',
      serverIndex: 0,
      method: 'POST',
      target: '/mcp',
      headers: [],
      body: null,
      principal: '',
    },
    id: ID,
    maxBytes: 10_000,
    onMessage: () => true,
    onAnswer: (answer) => answers.push(answer),
  })
  exchange.onAbort(() => cuts++)
  exchange.begin(200, ['content-type', 'text/event-stream'])
  return { exchange, answers, cuts: () => cuts }
}

function event(message: object): Buffer {
  return Buffer.from(`data: ${JSON.stringify(message)}\n\n`)
}

t.test('a stream that the upstream leaves open after the answer is cut', async (t) => {
  const { exchange, answers, cuts } = asked()
  exchange.write(event(ANSWER))
  t.match(answers, [{ kind: 'response', message: ANSWER }], 'the answer is not kept waiting')
  t.equal(cuts(), 0, 'the upstream may end the stream by itself')
  await eventually('the stream is cut', () => cuts() === 1)
  t.notOk(exchange.isOpen)
  exchange.write(event({ ...ANSWER, result: {} }))
  t.equal(answers.length, 1)
})

t.test('a stream that the upstream ends is not cut', async (t) => {
  const first = asked()
  first.exchange.write(event(ANSWER))
  first.exchange.end()
  // Begun later, so cut later: by then the first one's time was over.
  const second = asked()
  second.exchange.write(event(ANSWER))
  await eventually('the second is cut', () => second.cuts() === 1)
  t.equal(first.cuts(), 0)
})
