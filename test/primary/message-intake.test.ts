/** Messages that come slowly: a response that is not there, and a clock that is the test's. */
import t from 'tap'

import { MessageIntake } from '../../src/primary/listener/message-intake.ts'
import type { HttpResponse } from '../../src/primary/listener/native.ts'

/** What of a uWebSockets.js response a refusal uses, and what was written. */
function stage() {
  let take: ((chunk: ArrayBuffer, isLast: boolean) => void) | undefined
  let abort: (() => void) | undefined
  let status = ''
  let sent = ''
  const response = {
    onAborted: (listener: () => void) => {
      abort = listener
      return response
    },
    onData: (listener: (chunk: ArrayBuffer, isLast: boolean) => void) => {
      take = listener
      return response
    },
    cork: (write: () => void) => {
      write()
      return response
    },
    writeStatus: (text: string) => {
      status = text
      return response
    },
    writeHeader: () => response,
    tryEnd: (part: string) => {
      sent += part
      return [true, false]
    },
    end: (part: string) => {
      sent += part
      return response
    },
    close: () => response,
  }
  let nowMs = 5_000
  const outcomes: string[] = []
  const intake = new MessageIntake(1_000_000, () => nowMs)
  intake.collect(
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the part that is used
    response as unknown as HttpResponse,
    { contentLength: 900_000, answerHeaders: [] },
    {
      whole: (body) => outcomes.push(`whole ${body.length}`),
      over: () => outcomes.push('over'),
    },
  )
  return {
    outcomes,
    intake,
    send: (bytes: number, isLast = false) => take?.(new ArrayBuffer(bytes), isLast),
    wait: (ms: number) => {
      nowMs += ms
    },
    leave: () => abort?.(),
    status: () => status,
    sent: () => sent,
  }
}

t.test('a message that drips is answered 408 and its memory given back', async (t) => {
  const slow = stage()
  for (let seconds = 0; seconds <= 30; seconds += 5) {
    slow.send(1)
    slow.wait(5_000)
  }
  t.same(slow.outcomes, [], 'thirty seconds are granted to anybody')
  slow.send(1)
  t.same(slow.outcomes, ['over'])
  t.match(slow.status(), /^408 /)
  t.match(JSON.parse(slow.sent()), {
    error: { code: 1408, data: { code: 'ADAPTER_REQUEST_TOO_SLOW', retryable: true } },
  })
  slow.send(10, true)
  slow.leave()
  t.same(slow.outcomes, ['over'], 'once')
  t.ok(slow.intake.hasRoomFor(268_435_456), 'nothing is held for it')
})

t.test('a large message has as long as a slow line needs', async (t) => {
  const large = stage()
  for (let i = 0; i < 50; i++) {
    large.send(16_384)
    large.wait(1_000)
  }
  large.send(100, true)
  t.same(large.outcomes, [`whole ${50 * 16_384 + 100}`])
})

t.test('a message in one piece is never slow', async (t) => {
  const whole = stage()
  whole.wait(3_600_000)
  whole.send(100, true)
  t.same(whole.outcomes, ['whole 100'])
})
