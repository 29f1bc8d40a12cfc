/** What is done to a good request: to its headers, to how it is framed, to its bytes. */
import type { Random } from './random.ts'
import type { RequestDraft } from './request-draft.ts'

/**
 * Changes headers, never those of the framing. Answers whether the head is still one that the listener takes for a head: it waits for the end of others
 * until the time for a head is over, and then closes.
 */
export function mutateHeaders(random: Random, draft: RequestDraft): boolean {
  const { headers } = draft
  const at = random.below(Math.max(1, headers.length))
  const [name = 'X-A', value = 'b'] = headers[at] ?? []
  switch (random.below(9)) {
    case 0:
      headers.splice(at, 1)
      return name !== 'Host'
    case 1:
      headers.push([name, random.chance(0.5) ? value : `${value}x`])
      return true
    case 2:
      headers[at] = [random.chance(0.5) ? name.toLowerCase() : name.toUpperCase(), value]
      return true
    case 3:
      headers[at] = [name, 'v'.repeat(random.pick([1_000, 4_090, 8_192, 16_384, 70_000]))]
      return true
    case 4:
      for (let i = random.pick([20, 60, 99, 101, 300]); i > 0; i--) headers.push([`X-${i}`, 'v'])
      return false
    case 5: {
      const byte = random.pick([
        '\u0000',
        '\u0001',
        '\u0008',
        '\u000b',
        '\u007f',
        '\u0080',
        '\u00ff',
        '\u00c3\u00a4',
        '\t',
      ])
      const place = random.below(value.length + 1)
      headers[at] = [name, value.slice(0, place) + byte + value.slice(place)]
      return false
    }
    case 6:
      headers[at] = [
        random.pick([
          `${name} `,
          ` ${name}`,
          '',
          `${name}\u0000`,
          `${name}:`,
          'a'.repeat(9_000),
          `${name}_`,
        ]),
        value,
      ]
      return false
    case 7:
      headers[at] = [
        name,
        random.pick([` ${value} `, `\t${value}`, `${value},${value}`, '', `"${value}"`]),
      ]
      return true
    default:
      headers.unshift(['X-Mcp-Adapter-Auth-Token', random.pick(['', 'x', 'null'])])
      return true
  }
}

/** Bytes of the request with its framing made ambiguous or wrong. */
export function misframe(random: Random, draft: RequestDraft): Buffer {
  const length = draft.body.byteLength
  const lines = random.pick([
    [`Content-Length: ${length}`, `Content-Length: ${length}`],
    [`Content-Length: ${length}`, `Content-Length: ${length + 1}`],
    [`Content-Length: ${length}`, 'Transfer-Encoding: chunked'],
    ['Transfer-Encoding: chunked', `Content-Length: ${length}`],
    ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
    ['Transfer-Encoding: gzip, chunked'],
    ['Transfer-Encoding: chunked, identity'],
    ['Transfer-Encoding: xchunked'],
    ['Transfer-Encoding: \u000bchunked'],
    ['Transfer-Encoding : chunked'],
    ['Transfer-Encoding: CHUNKED'],
    ['Transfer_Encoding: chunked'],
    [`Content-Length: +${length}`],
    [`Content-Length: -1`],
    [`Content-Length: 0x${length.toString(16)}`],
    [`Content-Length: ${length}, ${length}`],
    ['Content-Length: '],
    ['Content-Length: 99999999999999999999'],
    ['Content-Length: 18446744073709551615'],
    ['Content-Length: 4294967296'],
    [`Content-Length: ${length + 10}`],
    [`Content-Length: ${Math.max(0, length - 3)}`],
    [`Content-Length:\r\n ${length}`],
    [`Content-Length: ${length}\u0000`],
  ])
  const head = draft.headers.map(([name, value]) => `${name}: ${value}\r\n`)
  const at = random.below(head.length + 1)
  head.splice(at, 0, ...lines.map((line) => `${line}\r\n`))
  const framed = random.pick([
    draft.body,
    draft.body,
    Buffer.concat([
      Buffer.from(`${length.toString(16)}\r\n`),
      draft.body,
      Buffer.from('\r\n0\r\n\r\n'),
    ]),
    Buffer.concat([
      Buffer.from(random.pick(BAD_CHUNK_LINES)),
      draft.body,
      Buffer.from('\r\n0\r\n\r\n'),
    ]),
    Buffer.concat([
      Buffer.from(`${length.toString(16)}\r\n`),
      draft.body,
      Buffer.from(random.pick(BAD_CHUNK_ENDS)),
    ]),
  ])
  const text = `${draft.method} ${draft.target} ${draft.version}\r\n${head.join('')}\r\n`
  return Buffer.concat([Buffer.from(text, 'latin1'), framed])
}

const BAD_CHUNK_LINES = [
  'ffffffffffffffffff\r\n',
  '-1\r\n',
  '0x5\r\n',
  '5 \r\n',
  '5\n',
  ' 5\r\n',
  '\r\n',
  '5;a="\r\n',
  `5;${'x'.repeat(5_000)}\r\n`,
  'g\r\n',
  '10000000000000000\r\n',
]
const BAD_CHUNK_ENDS = [
  '0\r\n\r\n',
  '\n0\n\n',
  '\r\n0\r\nX: y\r\n\r\n',
  '\r\n0\r\nContent-Length: 5\r\n\r\n',
  '\r\n00000\r\n\r\n',
  '\r\n0;x\r\n\r\n',
  'xx0\r\n\r\n',
  '\r\n0\r\n',
  '\r\n',
]

/** Request lines that are none, or are another protocol's. */
export function mutateRequestLine(random: Random, draft: RequestDraft): void {
  switch (random.below(4)) {
    case 0:
      draft.version = random.pick([
        'HTTP/1.0',
        'HTTP/0.9',
        'HTTP/2.0',
        'HTTP/1.2',
        'http/1.1',
        'HTTP/1.1 x',
        '',
        'HTTP/11',
      ])
      return
    case 1:
      draft.method = random.pick([
        '',
        'GET GET',
        'G\u0000T',
        'x'.repeat(5_000),
        'PRI',
        '\u0016\u0003\u0001',
        'POST\t',
        ' POST',
        'Ünï',
      ])
      return
    case 2:
      draft.target = random.pick([
        '',
        ' ',
        '*',
        'x',
        '/\u0000',
        '/ä',
        '/a b',
        `/${'b'.repeat(70_000)}`,
        '//',
        'http://',
        '/?',
        '/#',
      ])
      return
    default:
      draft.target = `${draft.target}${random.pick(['\u0000', '\t', '?', '%', '\u00ff', '?'.repeat(3_000)])}`
  }
}

/** Bytes changed blindly in one to six places. `others` is where spliced pieces come from. */
export function mutateBytes(random: Random, bytes: Buffer, others: Buffer): Buffer {
  let mutated = bytes
  for (let i = random.between(1, 6); i > 0; i--) mutated = mutateOnce(random, mutated, others)
  return mutated
}

const TOKENS = [
  '\r\n',
  '\n',
  '\r',
  '\u0000',
  ':',
  ' ',
  '\t',
  '0\r\n\r\n',
  '\r\n\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Content-Length: 0\r\n',
  'Content-Length: 5\r\n',
  'GET / HTTP/1.1\r\n',
  'Host: x\r\n',
  'Expect: 100-continue\r\n',
  '\r\n ',
  ';',
  '%',
  '\u00ff\u00fe',
]

function mutateOnce(random: Random, bytes: Buffer, others: Buffer): Buffer {
  const at = random.below(bytes.byteLength + 1)
  const to = Math.min(bytes.byteLength, at + random.below(random.chance(0.8) ? 20 : 400))
  const before = bytes.subarray(0, at)
  switch (random.below(7)) {
    case 0: {
      const flipped = Buffer.from(bytes)
      const byte = flipped[at]
      if (byte !== undefined) flipped[at] = byte ^ (1 << random.below(8))
      return flipped
    }
    case 1:
      return Buffer.concat([before, bytes.subarray(to)])
    case 2:
      return Buffer.concat([bytes.subarray(0, to), bytes.subarray(at)])
    case 3:
      return Buffer.concat([before, random.bytes(random.between(1, 8)), bytes.subarray(at)])
    case 4:
      return Buffer.concat([before, Buffer.from(random.pick(TOKENS), 'latin1'), bytes.subarray(at)])
    case 5: {
      const from = random.below(others.byteLength + 1)
      return Buffer.concat([
        before,
        others.subarray(from, from + random.below(200)),
        bytes.subarray(to),
      ])
    }
    default:
      return before
  }
}
