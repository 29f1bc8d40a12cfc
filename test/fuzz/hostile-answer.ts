/** What a hostile upstream answers to one request: the bytes, and what becomes of the connection. A number decides all of it. */
import { mutateValue } from './json-fuzz.ts'
import { mutateBytes } from './request-mutations.ts'
import { Random } from './random.ts'

/** See the file comment. */
export interface HostileAnswer {
  readonly pieces: readonly Buffer[]
  readonly ending: 'keep' | 'close' | 'reset' | 'hang'
}

/** What answers may lie about. */
export interface HostileContext {
  /** Id of the request. */
  readonly id: unknown
  /** A file that belongs to nobody's session. */
  readonly canaryPath: string
  /** The path that the adapter gave the tool to write at, if it did. */
  readonly outputPath: string | undefined
}

export function hostileAnswer(seed: number, context: HostileContext): HostileAnswer {
  const random = new Random('upstream', seed)
  const bytes = answerBytes(random, context)
  const mutated = random.chance(0.25) ? mutateBytes(random, bytes, bytes) : bytes
  const at = random.below(mutated.byteLength + 1)
  const ending = random.chance(0.03)
    ? 'hang'
    : random.pick(['keep', 'keep', 'close', 'close', 'reset'] as const)
  return {
    pieces: random.chance(0.6) ? [mutated] : [mutated.subarray(0, at), mutated.subarray(at)],
    ending,
  }
}

function answerBytes(random: Random, context: HostileContext): Buffer {
  const isStream = random.chance(0.4)
  const body = isStream ? eventStream(random, context) : jsonBody(random, context)
  const status = random.chance(0.8) ? '200 OK' : random.pick(STATUSES)
  const type = random.chance(0.85)
    ? isStream
      ? 'text/event-stream'
      : 'application/json'
    : random.pick(['text/html', '', 'application/json; charset=utf-16', 'text/event-stream;x', 'a'])
  const interim = random.chance(0.05)
    ? random.pick([
        'HTTP/1.1 100 Continue\r\n\r\n',
        'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n',
        'HTTP/1.1 101 Switching Protocols\r\n\r\n',
      ])
    : ''
  const head = `${interim}HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\n${oddHeaders(random)}`
  return frame(random, head, body)
}

const STATUSES = [
  '202 Accepted',
  '204 No Content',
  '301 Moved',
  '304 Not Modified',
  '400 Bad',
  '401 No',
  '404 Not Found',
  '405 No',
  '429 Later',
  '500 Oops',
  '503 Later',
  '099 What',
  '1000 What',
  '200',
]

function oddHeaders(random: Random): string {
  if (random.chance(0.7)) return ''
  return random.pick([
    'Mcp-Session-Id: other\r\n',
    'Mcp-Session-Id: \u0001\r\n',
    'Set-Cookie: a=b\r\n',
    'Connection: close\r\n',
    'Keep-Alive: timeout=0\r\n',
    'Content-Encoding: gzip\r\n',
    'Transfer-Encoding: gzip\r\n',
    'Trailer: X\r\n',
    'Access-Control-Allow-Origin: *\r\n',
    `X-Long: ${'v'.repeat(70_000)}\r\n`,
    'X-A: b\r\n'.repeat(300),
    'Bad Name: x\r\n',
    'Folded: a\r\n b\r\n',
    'Www-Authenticate: Basic\r\n',
    'Location: http://127.0.0.1:1/\r\n',
  ])
}

function frame(random: Random, head: string, body: Buffer): Buffer {
  const length = body.byteLength
  const kind = random.chance(0.8) ? random.below(3) : random.between(3, 6)
  const withHead = (line: string, ...rest: readonly (Buffer | string)[]): Buffer =>
    Buffer.concat(
      [`${head}${line}\r\n`, ...rest].map((part) => Buffer.from(part as string, 'latin1')),
    )
  switch (kind) {
    case 0:
      return withHead(`Content-Length: ${length}\r\n`, body)
    case 1: {
      const middle = random.below(length + 1)
      const parts = [body.subarray(0, middle), body.subarray(middle)].filter(
        (part) => part.byteLength > 0,
      )
      const chunks = parts.flatMap((part) => [`${part.byteLength.toString(16)}\r\n`, part, '\r\n'])
      return withHead('Transfer-Encoding: chunked\r\n', ...chunks, '0\r\n\r\n')
    }
    case 2: // until the connection closes
      return withHead('', body)
    case 3:
      return withHead(
        `Content-Length: ${random.pick([0, 1, length + 1, length + 1_000, Math.max(0, length - 1), '99999999999999', 'x', '-1'])}\r\n`,
        body,
      )
    case 4:
      return withHead(`Content-Length: ${length}\r\nTransfer-Encoding: chunked\r\n`, body)
    case 5:
      return withHead(
        'Transfer-Encoding: chunked\r\n',
        `${random.pick(['ffffffffff', 'x', '', '-1', '1;'.repeat(2_000)])}\r\n`,
        body,
      )
    default: // two answers for one request
      return withHead(
        `Content-Length: ${length}\r\n`,
        body,
        `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}`,
      )
  }
}

function jsonBody(random: Random, context: HostileContext): Buffer {
  const message = rpcAnswer(random, context)
  const value = random.chance(0.35) ? mutateValue(random, message) : message
  const text = JSON.stringify(value) ?? ''
  const cutAt = random.chance(0.1) ? random.below(text.length + 1) : text.length
  const body = Buffer.from(text.slice(0, cutAt), 'utf8')
  return random.chance(0.05) ? Buffer.concat([body, Buffer.from([0xff, 0xc0])]) : body
}

function eventStream(random: Random, context: HostileContext): Buffer {
  const end = random.pick(['\n', '\r\n', '\r'])
  const events = Array.from({ length: random.pick([0, 1, 1, 2, 5, 40]) }, (_, index) => {
    const isLast = index === 0
    const message = isLast || random.chance(0.2) ? rpcAnswer(random, context) : push(random)
    const value = random.chance(0.25) ? mutateValue(random, message) : message
    const id = random.chance(0.4)
      ? `id: ${random.pick([index, '', '\u0000', 'x'.repeat(2_000), 'ü'])}${end}`
      : ''
    const odd = random.chance(0.1)
      ? random.pick([`:c${end}`, `retry: 1${end}`, `data${end}`, `data:${end}`, `event: x${end}`])
      : ''
    const data = `data: ${JSON.stringify(value) ?? ''}`
    return `${id}${odd}event: message${end}${data}${end}${end}`
  }).toReversed()
  const text = events.join('')
  return Buffer.from(
    random.chance(0.15) ? text.slice(0, random.below(text.length + 1)) : text,
    'utf8',
  )
}

function push(random: Random): unknown {
  return random.pick([
    { jsonrpc: '2.0', method: 'notifications/tools/list_changed' },
    { jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: 1, progress: 1 } },
    { jsonrpc: '2.0', id: 1, method: 'ping' },
    { jsonrpc: '2.0', id: 'x', method: 'roots/list' },
    { jsonrpc: '2.0', id: 77, method: 'sampling/createMessage', params: {} },
    { jsonrpc: '2.0', id: null, result: {} },
  ])
}

function rpcAnswer(random: Random, { id, canaryPath, outputPath }: HostileContext): unknown {
  const rightId = random.chance(0.85) ? id : random.pick([null, 'other', 0, [id], String(id)])
  const path = random.pick([
    outputPath ?? '/nowhere',
    canaryPath,
    `${outputPath ?? ''}/../../x`,
    '/etc/passwd',
    '/proc/self/environ',
    '/dev/zero',
    '/dev/stdin',
    'relative/x',
    '\u0000',
    `file://${canaryPath}`,
  ])
  const results: readonly unknown[] = [
    { content: [{ type: 'text', text: `Saved to ${path}` }] },
    { content: [{ type: 'text', text: `[r](${path})` }], structuredContent: { path } },
    { content: [{ type: 'resource_link', uri: `file://${path}`, name: 'x' }] },
    { content: [{ type: 'image', data: random.pick(['AAAA', '!', '']), mimeType: 'image/png' }] },
    { content: [{ type: 'resource', resource: { uri: 'x:y', blob: '////', mimeType: '\r\n' } }] },
    { content: 'x' },
    { content: null, isError: 'yes' },
    {
      tools: [
        { name: 'read_file', inputSchema: { type: 'object', properties: { path: {} } } },
        { name: random.text(6), inputSchema: 1 },
        null,
      ],
    },
    { tools: 'x', nextCursor: 1 },
    { tools: [], nextCursor: 'same' },
    { resources: [{ uri: `artifact://sessions/x`, name: 1 }] },
    {
      protocolVersion: random.pick(['2025-06-18', 1, '']),
      capabilities: random.pick([{}, null, 'x']),
      serverInfo: {},
    },
    { text: 'A'.repeat(random.pick([10, 70_000, 300_000])) },
    {},
    null,
  ]
  return random.chance(0.85)
    ? { jsonrpc: '2.0', id: rightId, result: random.pick(results) }
    : {
        jsonrpc: '2.0',
        id: rightId,
        error: random.pick([
          { code: 1, message: 'x' },
          {},
          'x',
          null,
          { code: 'x', message: 1, data: path },
        ]),
      }
}
