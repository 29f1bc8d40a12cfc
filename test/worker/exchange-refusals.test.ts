/** Whoever counts refusals hears of them through whatever stands between an endpoint and the exchange. */
import t from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import { DelayedExchange } from '../../src/worker/exchange/delayed-exchange.ts'
import type { Exchange, RequestHead } from '../../src/worker/exchange/exchange.ts'
import { fail } from '../../src/worker/exchange/failure.ts'
import { TracedExchange } from '../../src/worker/tracing/traced-exchange.ts'

const request: RequestHead = {
  route: 'mcp',
  serverIndex: 0,
  method: 'POST',
  target: '/mcp/files',
  headers: [],
  body: '{}',
  principal: '',
}

function nothing(): void {}

function counting(): { exchange: Exchange; refusals: string[] } {
  const refusals: string[] = []
  return {
    refusals,
    exchange: {
      request,
      isOpen: true,
      noteRefusal: ({ code }) => refusals.push(code),
      readBody: nothing,
      pauseBody: nothing,
      resumeBody: nothing,
      onAbort: nothing,
      respond: nothing,
      begin: nothing,
      write: () => true,
      onDrain: nothing,
      end: nothing,
      reset: nothing,
      sendFile: nothing,
    },
  }
}

for (const [name, wrap] of [
  ['a call that is traced', (inner: Exchange) => new TracedExchange(inner, request, undefined)],
  ['an answer that is held back', (inner: Exchange) => new DelayedExchange(inner, async () => {})],
] as const) {
  t.test(`the refusal of ${name} is counted once`, async (t) => {
    const { exchange, refusals } = counting()
    fail(wrap(exchange), new AdapterError('ADAPTER_UPSTREAM_DOWN', 'down'), 1)
    t.same(refusals, ['ADAPTER_UPSTREAM_DOWN'])
  })
}
