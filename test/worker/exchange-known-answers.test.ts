// Answers that are made again from the bytes of an earlier one: never anything but what rewriting would have made of this one.
import { deepEqual, equal } from 'node:assert/strict'

import * as fc from 'fast-check'
import t from 'tap'

import type { HeaderList } from '../../src/shared/frames/frames.ts'
import type { JsonObject } from '../../src/shared/state/records.ts'
import { idKey } from '../../src/worker/exchange/json-rpc.ts'
import { JsonSink } from '../../src/worker/exchange/json-sink.ts'
import { SseSink } from '../../src/worker/exchange/sse-sink.ts'
import type { AnswerSink } from '../../src/worker/exchange/answer-sink.ts'
import type { Exchange } from '../../src/worker/exchange/exchange.ts'
import { KnownAnswers } from '../../src/worker/exchange/known-answers.ts'
import type { PendingRewrite } from '../../src/worker/session/session.ts'

const NUM_RUNS = 300
const HEAD = { status: 200, headers: ['content-type', 'application/json'] }
const CALL = { abort: () => {}, pause: () => {}, resume: () => {} }

/** A client that only notes what it gets. */
class Recorder implements Exchange {
  readonly request = {
    route: 'mcp',
    serverIndex: 0,
    method: 'POST',
    target: '/',
    headers: [],
    body: null,
    principal: '',
  } as const
  readonly isOpen = true
  readonly done: Promise<string>
  #text = ''
  #finish: (text: string) => void = () => {}

  constructor() {
    this.done = new Promise((resolve) => (this.#finish = resolve))
  }

  respond(_status: number, _headers: HeaderList, body: Uint8Array | string = ''): void {
    this.#finish(Buffer.from(body).toString('utf8'))
  }

  write(chunk: Uint8Array): boolean {
    this.#text += Buffer.from(chunk).toString('utf8')
    return true
  }

  end(): void {
    this.#finish(this.#text)
  }

  readBody(): void {}
  pauseBody(): void {}
  resumeBody(): void {}
  onAbort(): void {}
  begin(): void {}
  onDrain(): void {}
  reset(): void {}
  sendFile(): void {}
}

/** What a client gets for `text`, and whether anything was rewritten for it. */
async function answerTo(
  text: string,
  id: unknown,
  options: { known: KnownAnswers | undefined; isStream: boolean; cutAt?: readonly number[] },
): Promise<{ sent: string; isRewritten: boolean }> {
  let isRewritten = false
  const rewrite: PendingRewrite = {
    ...(options.known === undefined ? {} : { known: options.known }),
    rewrite: async (message, keep) => {
      isRewritten = true
      const rewritten = { ...message, result: { shaped: message['result'] } }
      keep?.(rewritten, 'memo')
      return rewritten
    },
    abandon: () => {},
  }
  const exchange = new Recorder()
  const sink = sinkOf(exchange, new Map([[idKey(id), rewrite]]), options)
  const bytes = Buffer.from(text)
  let from = 0
  for (const cut of (options.cutAt ?? [])
    .map((at) => at % (bytes.length + 1))
    .toSorted((a, b) => a - b)) {
    sink.data(new Uint8Array(bytes.subarray(from, cut)))
    from = cut
  }
  sink.data(new Uint8Array(bytes.subarray(from)))
  sink.end()
  return { sent: await exchange.done, isRewritten }
}

function sinkOf(
  exchange: Exchange,
  rewrites: Map<string, PendingRewrite>,
  { known, isStream }: { known: KnownAnswers | undefined; isStream: boolean },
): AnswerSink {
  const common = {
    exchange,
    head: HEAD,
    locals: [],
    watch: undefined,
    maxBytes: 1_000_000,
    call: CALL,
  }
  if (!isStream) {
    return new JsonSink({
      ...common,
      rewrites,
      fail: (error) => exchange.respond(0, [], error.code),
    })
  }
  return new SseSink({
    ...common,
    take: (key) => {
      const rewrite = rewrites.get(key)
      rewrites.delete(key)
      return rewrite
    },
    known,
    onEnd: () => {},
    onCut: (error) => exchange.respond(0, [], error.code),
  })
}

const anyId = fc.oneof(
  fc.nat(),
  fc.integer(),
  fc.string({ maxLength: 8 }),
  fc.constantFrom('id', '"', '\\', '1,"id":2', 'ä'),
)

/** A response as servers write them: the id first, in the middle or last, with or without blanks, with keys that look like it elsewhere. */
const response = fc
  .record({
    result: fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom({ id: 1 }, { tools: [{ id: '"id":', name: '{"id":1}' }] }, '\\"id":'),
    ),
    place: fc.constantFrom(0, 1, 2),
    indent: fc.constantFrom(undefined, 1),
    extra: fc.constantFrom({}, { ID: 5 }, { 'i\\d': 1 }, { idx: [{ id: 0 }] }, { 'ı"d': 2 }),
  })
  .map(({ result, place, indent, extra }) => (id: unknown): string => {
    const members: [string, unknown][] = [
      ['jsonrpc', '2.0'],
      ['result', result],
      ...Object.entries(extra),
    ]
    members.splice(place, 0, ['id', id])
    return JSON.stringify(Object.fromEntries(members), null, indent)
  })

const emptyResult = (id: number): string => `{"jsonrpc":"2.0","id":${id},"result":{}}`

/** A message of about `size` bytes. */
const pageOf = (page: number, size: number): JsonObject => ({
  id: 1,
  result: { page, text: 'x'.repeat(size) },
})

const bytesOf = (page: number, size: number): Buffer =>
  Buffer.from(JSON.stringify(pageOf(page, size)))

const eventOf = (data: string): string =>
  `event: message\n${data
    .split('\n')
    .map((line) => `data: ${line}\n`)
    .join('')}\n`

t.test('an answer that is known is sent as rewriting would have made it', async (t) => {
  const kinds = fc.record({ isStream: fc.boolean(), cutAt: fc.array(fc.nat(), { maxLength: 4 }) })
  await fc.assert(
    fc.asyncProperty(
      response,
      fc.array(anyId, { minLength: 1, maxLength: 4 }),
      kinds,
      async (text, ids, kind) => {
        const known = new KnownAnswers()
        for (const id of ids) {
          const sent = kind.isStream ? eventOf(text(id)) : text(id)
          const expected = await answerTo(sent, id, { isStream: kind.isStream, known: undefined })
          const got = await answerTo(sent, id, { ...kind, known })
          equal(got.sent, expected.sent)
        }
      },
    ),
    { numRuns: NUM_RUNS },
  )
  for (const isStream of [false, true]) {
    const known = new KnownAnswers()
    const text = (id: unknown): string => {
      const message = JSON.stringify({ jsonrpc: '2.0', id, result: { tools: ['ä'] } })
      return isStream ? eventOf(message) : message
    }
    t.equal((await answerTo(text(1), 1, { known, isStream })).isRewritten, true)
    for (const id of [2, 123_456, -1, 'a', '{"id":1}']) {
      const { isRewritten, sent } = await answerTo(text(id), id, {
        known,
        isStream,
        cutAt: [9, 30, 31],
      })
      t.equal(isRewritten, false, `the id ${id} is put in its place`)
      t.equal(sent, (await answerTo(text(id), id, { known: undefined, isStream })).sent)
    }
  }
})

t.test('an answer that differs in anything but the id is rewritten', async (t) => {
  const message =
    '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"a","id":7}],"nextCursor":"x"}}'
  for (let at = 0; at < message.length; at++) {
    const changed = `${message.slice(0, at)}${message[at] === '8' ? '9' : '8'}${message.slice(at + 1)}`
    const known = new KnownAnswers()
    await answerTo(message, 7, { known, isStream: false })
    const id = changed.includes('"id":8,') ? 8 : 7
    const got = await answerTo(changed, id, { known, isStream: false })
    const expected = await answerTo(changed, id, { known: undefined, isStream: false })
    equal(got.sent, expected.sent, changed)
    if (id === 7) equal(got.isRewritten, expected.isRewritten, changed)
  }
  const known = new KnownAnswers()
  await answerTo(message, 7, { known, isStream: false })
  const longer = await answerTo(message.replace('"x"}}', '"x"}} '), 7, { known, isStream: false })
  t.equal(longer.isRewritten, true)
  const smuggled = message.replace('"id":7,', '"id":7,"result":{"tools":[]},"x":8,')
  t.equal((await answerTo(smuggled, 7, { known, isStream: false })).isRewritten, true)
})

t.test('an answer to another request is not the answer to this one', async (t) => {
  for (const isStream of [false, true]) {
    const known = new KnownAnswers()
    const wrap = isStream ? eventOf : String
    await answerTo(wrap(emptyResult(1)), 1, { known, isStream })
    const { sent } = await answerTo(wrap(emptyResult(2)), 3, { known, isStream })
    t.equal(sent, wrap(emptyResult(2)), 'it passes as it is')
  }
})

t.test(
  'a rewrite that depends on more than the answer gets it, whoever else knows it',
  async (t) => {
    const known = new KnownAnswers()
    await answerTo(eventOf(emptyResult(1)), 1, { known, isStream: true })
    const own: PendingRewrite = {
      rewrite: async (message) => ({ ...message, result: 'own' }),
      abandon: () => {},
    }
    const exchange = new Recorder()
    const sink = sinkOf(exchange, new Map([['2', own]]), { known, isStream: true })
    sink.data(Buffer.from(eventOf(emptyResult(2))))
    sink.end()
    t.match(await exchange.done, '"result":"own"')
  },
)

t.test(
  'what is known is sent only where it is right for who waits, however long that takes',
  async (t) => {
    const wraps = [(text: string) => text, eventOf]
    for (const [index, wrap] of wraps.entries()) {
      const isStream = index === 1
      const known = new KnownAnswers()
      await answerTo(wrap(emptyResult(1)), 1, { known, isStream })
      for (const isRight of [true, false]) {
        for (const admits of [() => isRight, async () => isRight]) {
          const asked: unknown[] = []
          const rewrite: PendingRewrite = {
            known,
            admits: (memo) => {
              asked.push(memo)
              return admits()
            },
            rewrite: async (message) => ({ ...message, result: 'own' }),
            abandon: () => {},
          }
          const exchange = new Recorder()
          const sink = sinkOf(exchange, new Map([['2', rewrite]]), { known, isStream })
          sink.data(Buffer.from(wrap(emptyResult(2))))
          sink.end()
          t.match(await exchange.done, isRight ? '"shaped"' : '"result":"own"')
          t.strictSame(asked, ['memo'])
        }
      }
    }
  },
)

t.test('an answer that nothing was done to is known as it came', (t) => {
  const known = new KnownAnswers()
  const text = '{ "id" : 1 ,\t"result":{"tools":[]} }'
  known.note(Buffer.from(text), { id: 1, result: { tools: [] } }, { isSame: true })
  const again = text.replace('1', '"x"')
  t.equal(Buffer.from(known.find([Buffer.from(again)])?.rewritten() ?? []).toString(), again)
  t.end()
})

t.test('an id that can not be told exactly is never replaced', (t) => {
  const undecided = [
    '{"id":1,"result":{},"id":1}',
    String.raw`{"i\u0064":1,"result":{},"id":1}`,
    String.raw`{"id":1,"result":{},"i\u0064":1}`,
    '{"id":1.0,"result":{}}',
    '{"id":1e0,"result":{}}',
    String.raw`{"id":"\u0061","result":{}}`,
    '{"result":{}}',
  ]
  for (const text of undecided) {
    const known = new KnownAnswers()
    const message = JSON.parse(text) as JsonObject
    known.note(Buffer.from(text), message)
    t.equal(known.find([Buffer.from(text)]), undefined, text)
  }
  t.end()
})

t.test('what is kept is bounded, and what is used is kept longest', (t) => {
  const known = new KnownAnswers()
  const isKnown = (page: number, size: number) => known.find([bytesOf(page, size)]) !== undefined
  for (let page = 0; page < 20; page++) {
    known.note(bytesOf(page, 10), pageOf(page, 10))
    t.ok(isKnown(0, 10), 'the first is asked for again and again')
  }
  deepEqual(Array.from({ length: 20 }, (_, page) => isKnown(page, 10)).filter(Boolean).length, 16)
  t.notOk(isKnown(1, 10))
  for (let page = 0; page < 4; page++) known.note(bytesOf(page, 900_000), pageOf(page, 900_000))
  deepEqual(
    [0, 1, 2, 3].map((page) => isKnown(page, 900_000)),
    [false, false, true, true],
  )
  known.note(bytesOf(9, 2_200_000), pageOf(9, 2_200_000))
  t.notOk(isKnown(9, 2_200_000), 'too large on its own')
  t.ok(isKnown(3, 900_000), 'and pushes nothing out')
  t.end()
})
