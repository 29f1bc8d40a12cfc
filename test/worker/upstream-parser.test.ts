// How answers of an upstream are read: what is understood, what is refused, and that it never matters how the bytes are cut.

import * as fc from 'fast-check'
import t from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import { AnswerParser } from '../../src/worker/upstream/http1/answer-parser.ts'
import { HeaderNames } from '../../src/worker/upstream/http1/header-names.ts'

interface Reading {
  readonly status: number
  readonly headers: readonly string[]
  readonly body: string
  /** `done`, `open` when more must come, or why it was refused. */
  readonly outcome: string
  /** Bytes that were left after the end. */
  readonly rest: number
  readonly canReuse: boolean
  readonly keepAliveSeconds: number | undefined
}

const names = new HeaderNames((name) => name.startsWith('x-') || name === 'content-type')

function read(pieces: readonly Buffer[], closes = false): Reading {
  const parser = new AnswerParser(names)
  let status = 0
  let heads = 0
  let headers: readonly string[] = []
  const body: Buffer[] = []
  parser.begin({
    head: (gotStatus, gotHeaders) => {
      heads++
      status = gotStatus
      headers = gotHeaders
    },
    data: (chunk) => {
      if (heads !== 1) throw new Error('data before the head')
      if (chunk.length === 0) throw new Error('empty data')
      body.push(Buffer.from(chunk))
    },
  })
  let outcome = 'open'
  let rest = 0
  try {
    // As the socket does it: one buffer for everything, written over each time.
    const shared = Buffer.alloc(Math.max(1, ...pieces.map((piece) => piece.length)))
    for (const piece of pieces) {
      shared.fill('#')
      piece.copy(shared)
      const used = parser.push(shared, piece.length)
      rest += piece.length - used
    }
    if (closes) parser.finish()
    if (parser.isDone) outcome = 'done'
  } catch (error) {
    if (!(error instanceof AdapterError) || error.code !== 'ADAPTER_UPSTREAM_INVALID') throw error
    outcome = error.message
  }
  return {
    status,
    headers,
    body: Buffer.concat(body).toString('latin1'),
    outcome,
    rest,
    canReuse: parser.canReuse,
    keepAliveSeconds: parser.keepAliveSeconds,
  }
}

const readText = (text: string, closes = false): Reading =>
  read([Buffer.from(text, 'latin1')], closes)

/** A head of so many bytes and headers. */
function headOf(bytes: number, headers: number): string {
  const few = `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${'A: b\r\n'.repeat(headers - 2)}X-A: `
  return `${few}${'v'.repeat(bytes - few.length - 4)}\r\n\r\n`
}

const VALID: Readonly<Record<string, { text: string; closes?: boolean; want: Partial<Reading> }>> =
  {
    'a body with a length': {
      text: 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nDate: now\r\n\r\nhello',
      want: { status: 200, headers: ['content-type', 'text/plain'], body: 'hello', canReuse: true },
    },
    'a body in chunks, with extensions and trailers that mean nothing': {
      text: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=1;b="x y"\r\nhello\r\n00A;\r\n, cruel wo\r\n3\r\nrld\r\n0\r\nX-Late: 1\r\nETag: "x"\r\n\r\n',
      want: { status: 200, headers: [], body: 'hello, cruel world', canReuse: true },
    },
    'a body until the connection is closed': {
      text: 'HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nall of it',
      closes: true,
      want: { headers: ['x-a', '1'], body: 'all of it', canReuse: false },
    },
    'an empty body until the connection is closed': {
      text: 'HTTP/1.1 200 OK\r\n\r\n',
      closes: true,
      want: { body: '', canReuse: false },
    },
    'no body at all, by its length': {
      text: 'HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n',
      want: { status: 202, body: '', canReuse: true },
    },
    '204 has no body': {
      text: 'HTTP/1.1 204 No Content\r\n\r\n',
      want: { status: 204, body: '', canReuse: true },
    },
    '204 that announces a body is not followed by another answer': {
      text: 'HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n',
      want: { status: 204, body: '', canReuse: false },
    },
    '205 has no body': {
      text: 'HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n',
      want: { status: 205, canReuse: true },
    },
    '304 has no body, whatever the length of what was not sent': {
      text: 'HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n\r\n',
      want: { status: 304, body: '', canReuse: true },
    },
    'interim answers are passed over': {
      text: 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Early: 1\r\nContent-Length: 9\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok',
      want: { status: 200, headers: ['x-a', '1'], body: 'ok', canReuse: true },
    },
    'an old server closes, whatever it says': {
      text: 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok',
      want: { status: 200, body: 'ok', canReuse: false },
    },
    'a server that closes says so': {
      text: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Foo , Close\r\n\r\nok',
      want: { body: 'ok', canReuse: false },
    },
    'a server says how long it keeps a connection': {
      text: 'HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=30\r\nContent-Length: 0\r\n\r\n',
      want: { keepAliveSeconds: 30, canReuse: true },
    },
    'the same length twice is one length': {
      text: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok',
      want: { body: 'ok', canReuse: true },
    },
    'no reason, and no space before it': {
      text: 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n',
      want: { status: 200 },
    },
    'a status that is not in the books': {
      text: 'HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n',
      want: { status: 599 },
    },
    'repeated headers stay apart, empty ones are there, white space around values is not': {
      text: 'HTTP/1.1 200 OK\r\nX-A:1\r\nx-a: \t two words \t \r\nX-E:\r\nX-U: h\xc3\xa9\r\nContent-Length: 0\r\n\r\n',
      want: { headers: ['x-a', '1', 'x-a', 'two words', 'x-e', '', 'x-u', 'hé'] },
    },
    'what comes after the end is not touched': {
      text: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1',
      want: { body: 'ok', rest: 8 },
    },
    'the largest head and the most headers that are taken': {
      text: headOf(65_536, 256),
      want: { status: 200 },
    },
  }

for (const [title, { text, closes = false, want }] of Object.entries(VALID)) {
  t.test(`is read: ${title}`, (t) => {
    const whole = readText(text, closes)
    t.equal(whole.outcome, 'done')
    t.match(whole, want)
    const bytes = Buffer.from(text, 'latin1')
    const singles = Array.from(bytes, (byte) => Buffer.from([byte]))
    t.same(read(singles, closes), whole, 'byte by byte')
    const step = Math.max(1, Math.floor(bytes.length / 400))
    for (let at = 1; at < bytes.length; at += step) {
      const halves = read([bytes.subarray(0, at), bytes.subarray(at)], closes)
      if (JSON.stringify(halves) !== JSON.stringify(whole)) t.same(halves, whole, `cut at ${at}`)
    }
    t.end()
  })
}

const OK = 'HTTP/1.1 200 OK\r\n'
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`

const INVALID: Readonly<Record<string, string>> = {
  'not HTTP': 'hello, this is not HTTP\r\n\r\n',
  'another protocol that ends no line': 'SSH-2.0',
  'HTTP/2': 'HTTP/2.0 200 OK\r\n',
  'HTTP/1.2': 'HTTP/1.2 200 OK\r\n',
  'a lower-case protocol': 'http/1.1 200 OK\r\n',
  'an empty line first': '\r\nHTTP/1.1 200 OK\r\n',
  'a short status': 'HTTP/1.1 20 OK\r\n',
  'a long status': 'HTTP/1.1 2000 OK\r\n',
  'a status of letters': 'HTTP/1.1 2x0 OK\r\n',
  'a status below 100': 'HTTP/1.1 099 OK\r\n',
  'no status': 'HTTP/1.1\r\n',
  'two spaces before the status': 'HTTP/1.1  200 OK\r\n',
  'a tab after the status': 'HTTP/1.1 200\tOK\r\n',
  'a control character in the reason': 'HTTP/1.1 200 O\0K\r\n',
  'another protocol that we did not ask for': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
  'a bare LF after the status line': 'HTTP/1.1 200 OK\nX-A: 1\r\n\r\n',
  'a bare LF after a header': `${OK}X-A: 1\n\r\n`,
  'a bare LF at the end of the head': `${OK}X-A: 1\r\n\n`,
  'a bare CR in a value': `${OK}X-A: 1\rX-B: 2\r\n\r\n`,
  'two CR at the end of a line': `${OK}X-A: 1\r\r\n\r\n`,
  'a NUL in a value': `${OK}X-A: 1\x002\r\n\r\n`,
  'a DEL in a value': `${OK}X-A: 1\x7f2\r\n\r\n`,
  'a folded header': `${OK}X-A: 1\r\n 2\r\n\r\n`,
  'a header folded by a tab': `${OK}X-A: 1\r\n\t2\r\n\r\n`,
  'a header folded onto the status line': `${OK} X-A: 1\r\n\r\n`,
  'white space before the colon': `${OK}X-A : 1\r\n\r\n`,
  'a header without a name': `${OK}: 1\r\n\r\n`,
  'a header without a colon': `${OK}X-A\r\n\r\n`,
  'a name with a character that no name has': `${OK}X(A: 1\r\n\r\n`,
  'a name beyond ASCII': `${OK}X\xe9: 1\r\n\r\n`,
  'a length that is negative': `${OK}Content-Length: -1\r\n\r\n`,
  'a length with a sign': `${OK}Content-Length: +1\r\n\r\n`,
  'a length in hexadecimal': `${OK}Content-Length: 0x5\r\n\r\n`,
  'a length that is a list': `${OK}Content-Length: 5, 5\r\n\r\n`,
  'a length that is empty': `${OK}Content-Length:\r\n\r\n`,
  'a length that no number holds': `${OK}Content-Length: 99999999999999999\r\n\r\n`,
  'two lengths that differ': `${OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\n`,
  'two content types': `${OK}Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n`,
  'a length and chunks': `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`,
  'chunks and a length': `${OK}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n`,
  'chunks from an old server': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
  'a coding inside the chunks': `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`,
  'a coding without chunks': `${OK}Transfer-Encoding: gzip\r\n\r\n`,
  'a coding that is none': `${OK}Transfer-Encoding: identity\r\n\r\n`,
  'chunks twice': `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
  'chunks twice in a list': `${OK}Transfer-Encoding: chunked, chunked\r\n\r\n`,
  'a chunk size that is empty': `${CHUNKED}\r\n`,
  'a chunk size that is no number': `${CHUNKED}xyz\r\n`,
  'a chunk size with a prefix': `${CHUNKED}0x5\r\nhello\r\n`,
  'a chunk size with a sign': `${CHUNKED}-5\r\nhello\r\n`,
  'a chunk size with a space before it': `${CHUNKED} 5\r\nhello\r\n`,
  'a chunk size with a space after it': `${CHUNKED}5 \r\nhello\r\n`,
  'a chunk size that no number holds': `${CHUNKED}fffffffffffffff\r\n`,
  'a chunk size with a bare LF': `${CHUNKED}5\nhello\r\n`,
  'a control character in a chunk extension': `${CHUNKED}5;a=\0\r\nhello\r\n`,
  'a chunk extension without end': `${CHUNKED}5;${'a'.repeat(1_100)}`,
  'a chunk that is longer than it says': `${CHUNKED}5\r\nhello!\r\n`,
  'a chunk that ends in a bare LF': `${CHUNKED}5\r\nhello\n0\r\n\r\n`,
  'a chunk that ends in CR and something': `${CHUNKED}5\r\nhello\rx`,
  'a trailer without a colon': `${CHUNKED}0\r\nnonsense\r\n\r\n`,
  'trailers without end': `${CHUNKED}0\r\n${'A: b\r\n'.repeat(300)}`,
  'too many headers': `${OK}${'A: b\r\n'.repeat(257)}`,
  'a head that is too large': `${OK}X-A: ${'v'.repeat(65_536)}`,
  'a head that is too large by one byte': headOf(65_537, 256),
  'interim answers without end': 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(3_000),
}

for (const [title, text] of Object.entries(INVALID)) {
  t.test(`is refused: ${title}`, (t) => {
    const bytes = Buffer.from(text, 'latin1')
    const whole = read([bytes])
    t.match(whole.outcome, /^the upstream server's answer is not valid HTTP \(.+\)$/)
    // Cut anywhere, and byte by byte, it is refused for the same reason.
    const step = Math.max(1, Math.floor(bytes.length / 200))
    for (let at = 1; at < bytes.length; at += step) {
      const { outcome } = read([bytes.subarray(0, at), bytes.subarray(at)])
      if (outcome !== whole.outcome) t.equal(outcome, whole.outcome, `cut at ${at}`)
    }
    t.equal(read(Array.from(bytes, (byte) => Buffer.from([byte]))).outcome, whole.outcome)
    t.end()
  })
}

interface Model {
  readonly interim: number
  readonly status: number
  readonly headers: readonly (readonly [string, string])[]
  readonly framing: 'length' | 'chunked' | 'close'
  readonly chunks: readonly Uint8Array[]
  readonly extension: string
  readonly trailers: number
}

const model: fc.Arbitrary<Model> = fc.record({
  interim: fc.nat(2),
  status: fc.constantFrom(200, 201, 202, 400, 404, 500, 503),
  headers: fc
    .array(
      fc.tuple(
        fc.constantFrom('X-One', 'x-two', 'Content-Type', 'Date', 'Server', 'MCP-Thing', "a!#$'*~"),
        fc.stringMatching(/^(?:[!-~](?:[ -~]{0,30}[!-~])?)?$/),
      ),
      { maxLength: 8 },
    )
    .filter((headers) => headers.filter(([name]) => name === 'Content-Type').length < 2),
  framing: fc.constantFrom('length', 'chunked', 'close'),
  chunks: fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 6 }),
  extension: fc.constantFrom('', ';x', ';name="a b"'),
  trailers: fc.nat(2),
})

function write(answer: Model): Buffer {
  const parts: Buffer[] = []
  const text = (line: string): number => parts.push(Buffer.from(line, 'latin1'))
  for (let i = 0; i < answer.interim; i++) text('HTTP/1.1 102 Processing\r\nX-No: 1\r\n\r\n')
  text(`HTTP/1.1 ${answer.status} Whatever\r\n`)
  for (const [name, value] of answer.headers) text(`${name}: ${value}\r\n`)
  const body = Buffer.concat(answer.chunks)
  if (answer.framing === 'length') text(`Content-Length: ${body.length}\r\n\r\n`)
  if (answer.framing === 'chunked') text('Transfer-Encoding: chunked\r\n\r\n')
  if (answer.framing === 'close') text('\r\n')
  if (answer.framing !== 'chunked') parts.push(body)
  else {
    for (const chunk of answer.chunks) {
      text(`${chunk.length.toString(16)}${answer.extension}\r\n`)
      parts.push(Buffer.from(chunk))
      text('\r\n')
    }
    text(`0\r\n${'X-Late: 1\r\n'.repeat(answer.trailers)}\r\n`)
  }
  return Buffer.concat(parts)
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  let at = 0
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

const sizes = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 12 })

t.test('any valid answer, however it is cut, is read as what was written', (t) => {
  fc.assert(
    fc.property(model, sizes, (answer, sizes) => {
      const closes = answer.framing === 'close'
      const reading = read(cut(write(answer), sizes), closes)
      const kept = answer.headers
        .map(([name, value]) => [name.toLowerCase(), value] as const)
        .filter(([name]) => name.startsWith('x-') || name === 'content-type')
      return (
        reading.outcome === 'done' &&
        reading.rest === 0 &&
        reading.status === answer.status &&
        reading.canReuse === !closes &&
        JSON.stringify(reading.headers) === JSON.stringify(kept.flat()) &&
        reading.body === Buffer.concat(answer.chunks).toString('latin1')
      )
    }),
    { numRuns: 600 },
  )
  t.end()
})

t.test('a valid answer that is cut off is never taken for a whole one', (t) => {
  fc.assert(
    fc.property(model, fc.double({ min: 0, max: 1, noNaN: true }), (answer, share) => {
      const bytes = write(answer)
      const short = bytes.subarray(0, Math.floor(share * (bytes.length - 1)))
      const closes = answer.framing !== 'close'
      return read([short], closes).outcome === 'open'
    }),
    { numRuns: 400 },
  )
  t.end()
})

/** Why something is refused depends on what has come of it, but not whether. */
function comparable(reading: Reading): string {
  const isRefused = reading.outcome !== 'done' && reading.outcome !== 'open'
  return JSON.stringify(isRefused ? { ...reading, outcome: 'refused', rest: 0 } : reading)
}

t.test('garbage is refused or waited on, never thrown over or looped on', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), sizes, (bytes, sizes) => {
      const { outcome } = read(cut(Buffer.from(bytes), sizes), true)
      return outcome !== 'done'
    }),
    { numRuns: 400 },
  )
  const mutation = fc.tuple(fc.nat(), fc.nat(255))
  fc.assert(
    fc.property(
      model,
      fc.array(mutation, { minLength: 1, maxLength: 4 }),
      sizes,
      (answer, mutations, sizes) => {
        const bytes = write(answer)
        for (const [at, byte] of mutations) bytes[at % bytes.length] = byte
        return comparable(read(cut(bytes, sizes))) === comparable(read([bytes]))
      },
    ),
    { numRuns: 1_500 },
  )
  t.end()
})

t.test('a server that makes up header names does not fill the memory, and all are read', (t) => {
  for (let i = 0; i < 2_000; i += 100) {
    const made = Array.from({ length: 100 }, (_, at) => `X-Made-${i + at}: ${at}\r\n`).join('')
    const { headers, outcome } = readText(`${OK}${made}Content-Length: 0\r\n\r\n`)
    t.equal(outcome, 'done')
    t.equal(headers.length, 200)
    t.equal(headers.at(-2), `x-made-${i + 99}`)
  }
  t.end()
})

t.test('names with the same hash are told apart', (t) => {
  // 31 * 'b' + '~' is 31 * 'c' + '_'.
  const text = `${OK}X-B~: 1\r\nX-C_: 2\r\nX-b~: 3\r\nx-c_: 4\r\nContent-Length: 0\r\n\r\n`
  const want = ['x-b~', '1', 'x-c_', '2', 'x-b~', '3', 'x-c_', '4']
  t.same(readText(text).headers, want)
  t.same(readText(text).headers, want)
  t.end()
})
