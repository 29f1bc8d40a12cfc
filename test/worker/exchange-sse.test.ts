// Event streams at byte level: whatever the line ends and however the bytes are cut, nothing is lost, added or put elsewhere.
import { deepEqual, equal } from 'node:assert/strict'

import { createParser } from 'eventsource-parser'
import * as fc from 'fast-check'
import t from 'tap'

import { eventData, eventDataBytes, eventName } from '../../src/shared/sse-event.ts'
import { SseSplitter } from '../../src/shared/sse-splitter.ts'
import { hasEventId, withEventData } from '../../src/worker/exchange/sse.ts'

const NUM_RUNS = 400

/** Text that fits on one line of a stream. */
const lineText = fc
  .string({ unit: 'binary', maxLength: 12 })
  .map((text) => text.replaceAll(/[\r\n\uFEFF]|\p{Cc}/gu, ' '))

const line = fc.oneof(
  { weight: 4, arbitrary: lineText.map((text) => `data: ${text}`) },
  lineText.map((text) => `data:${text}`),
  fc.constant('data'),
  lineText.map((text) => `: ${text}`),
  fc.constant(':'),
  fc.nat().map((ms) => `retry: ${ms}`),
  lineText.map((text) => `id: ${text}`),
  fc.constant('event: message'),
  lineText.filter((text) => text !== '').map((text) => `x${text}`),
)

const lineEnd = fc.constantFrom('\n', '\r', '\r\n')

/** The lines of one event and how each ends; the last end is that of the blank line. */
const block = fc
  .array(line, { minLength: 1, maxLength: 5 })
  .chain((lines) =>
    fc.record({
      lines: fc.constant(lines),
      ends: fc.array(lineEnd, { minLength: lines.length + 1, maxLength: lines.length + 1 }),
    }),
  )
  // A CR before an LF would be read as one line end: such neighbours are made CR LF CR LF.
  .map(({ lines, ends }) => {
    const safe = ends.map((end, index) => (end === '\r' && ends[index + 1] === '\n' ? '\r\n' : end))
    return lines.map((text, index) => text + (safe[index] ?? '\n')).join('') + (safe.at(-1) ?? '\n')
  })

/** Events one after the other; the blank line of one can't run into a line end of the next, as every event begins with text. */
const stream = fc.array(block, { maxLength: 6 }).map((blocks) => blocks.join(''))

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].toSorted(
    (a, b) => a - b,
  )
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length))
}

function split(chunks: readonly Buffer[]): { events: Buffer[]; rest: Buffer } {
  const splitter = new SseSplitter(1_000_000)
  const events = chunks.flatMap((chunk) => splitter.push(chunk)).map((event) => Buffer.from(event))
  return { events, rest: Buffer.from(splitter.rest()) }
}

function dataOf(events: readonly Buffer[]): (string | undefined)[] {
  return events.map((event) => eventData(event)).filter((data) => data !== undefined)
}

/** What a client gets out of the stream. */
function understood(bytes: Uint8Array): { id: string | undefined; data: string }[] {
  const seen: { id: string | undefined; data: string }[] = []
  const parser = createParser({ onEvent: ({ id, data }) => seen.push({ id, data }) })
  parser.feed(Buffer.from(bytes).toString('utf8'))
  return seen
}

/** Checks a property; a failure is reported with the smallest example. */
function holds<Values>(
  t: { doesNotThrow(work: () => void): void },
  property: fc.IProperty<Values>,
): void {
  t.doesNotThrow(() => fc.assert(property, { numRuns: NUM_RUNS }))
}

t.test('any cutting of any stream gives the same bytes and the same events', async (t) => {
  holds(
    t,
    fc.property(stream, fc.array(fc.nat(), { maxLength: 20 }), (text, places) => {
      const bytes = Buffer.from(text, 'utf8')
      const whole = split([bytes])
      const pieces = split(cut(bytes, places))
      deepEqual(Buffer.concat([...pieces.events, pieces.rest]), bytes, 'no byte is lost or moved')
      deepEqual(dataOf(pieces.events), dataOf(whole.events), 'the events are the same')
    }),
  )
})

t.test('one byte at a time is no different', async (t) => {
  holds(
    t,
    fc.property(stream, (text) => {
      const bytes = Buffer.from(text, 'utf8')
      const { events, rest } = split(Array.from(bytes, (byte) => Buffer.from([byte])))
      deepEqual(Buffer.concat([...events, rest]), bytes)
    }),
  )
})

t.test('nor is it for bytes that are no proper stream', async (t) => {
  const noise = fc.string({
    unit: fc.constantFrom('\r', '\n', '\r\n', 'data: x', 'data', 'id:1', ':', ' ', '\u0000', 'ü'),
    maxLength: 30,
  })
  holds(
    t,
    fc.property(noise, fc.array(fc.nat(), { maxLength: 20 }), (text, places) => {
      const bytes = Buffer.from(text, 'utf8')
      const pieces = split(cut(bytes, places))
      deepEqual(Buffer.concat([...pieces.events, pieces.rest]), bytes)
      deepEqual(dataOf(pieces.events), dataOf(split([bytes]).events))
    }),
  )
})

t.test(
  'an event is found as soon as its last byte is there, and its data is what a client reads',
  async (t) => {
    holds(
      t,
      fc.property(block, fc.array(fc.nat(), { maxLength: 8 }), (text, places) => {
        const bytes = Buffer.from(text, 'utf8')
        const { events } = split(cut(bytes, places))
        // An LF at the very end that follows CR could still come; a parser waits for it, so feed it something after.
        const expected = understood(Buffer.from(`${text}:\n\n`)).map((event) => event.data)
        deepEqual(dataOf(events), expected)
      }),
    )
  },
)

t.test('new data leaves everything else of an event as it was', async (t) => {
  holds(
    t,
    fc.property(block, fc.json(), (text, data) => {
      const before = Buffer.from(text, 'utf8')
      if (eventData(before) === undefined) return
      const compact = JSON.stringify(JSON.parse(data))
      const after = withEventData(before, compact)
      equal(eventData(after), compact)
      equal(hasEventId(after), hasEventId(before))
      deepEqual(
        understood(after).map(({ id }) => id),
        understood(Buffer.from(`${text}:\n\n`)).map(({ id }) => id),
      )
    }),
  )
})

t.test('an event larger than the limit is refused while it comes', async (t) => {
  const splitter = new SseSplitter(1_000)
  const piece = Buffer.alloc(400, 'x')
  splitter.push(piece)
  splitter.push(piece)
  t.throws(() => splitter.push(piece), { code: 'ADAPTER_UPSTREAM_INVALID', message: /1000 bytes/ })
})

t.test('name and data of an event are what a parser of the standard finds', (t) => {
  const events: readonly (readonly [string, string, string | undefined])[] = [
    ['data: 1\n\n', 'message', '1'],
    ['event: endpoint\ndata: /x\n\n', 'endpoint', '/x'],
    ['event:endpoint\r\ndata:/x\r\n\r\n', 'endpoint', '/x'],
    ['data: /x\rid: 7\revent: late\r\r', 'late', '/x'],
    ['event: a\nevent: b\ndata: 1\ndata:  2\n\n', 'b', '1\n 2'],
    ['event: a\nevent\ndata\n\n', 'message', ''],
    ['events: no\ndata: 1\n\n', 'message', '1'],
    ['event: comment only\n: data: 1\n\n', 'comment only', undefined],
    ['database: 1\ndata: 2\n\n', 'message', '2'],
    ['\n', 'message', undefined],
  ]
  for (const [text, name, data] of events) {
    const bytes = new Uint8Array(Buffer.from(text))
    equal(eventName(bytes), name, text)
    const found = eventDataBytes(bytes)
    equal(found && Buffer.from(found).toString(), data, text)
    equal(eventData(bytes), data, text)
  }
  t.end()
})
