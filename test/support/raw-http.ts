/** HTTP by hand, over a plain socket: for what no client library would send, and for what it would hide of the answer. */
import { connect, type Socket } from 'node:net'

import { within } from './eventually.ts'
import { noteAnswer } from './secret-scan.ts'

/** One answer. `body` is without chunked framing. */
export interface RawResponse {
  readonly status: number
  /** Lower-case names; repeated headers are joined with a comma. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
}

/** A connection whose bytes are ours. */
export class RawConnection {
  readonly socket: Socket
  readonly #waiters = new Set<() => void>()
  #received: Buffer[] = []
  /** How many bytes have come. */
  receivedBytes = 0
  #isClosed = false

  /** `headOnly`: the answers are to HEAD requests and have no body. */
  constructor(port: number, options: { readonly headOnly?: boolean } = {}) {
    this.headOnly = options.headOnly ?? false
    this.socket = connect(port, '127.0.0.1')
    this.socket.on('data', (chunk) => {
      this.#received.push(chunk)
      this.receivedBytes += chunk.byteLength
      this.#wake()
    })
    this.socket.on('drain', () => this.#wake())
    // A reset is one way of being closed; what matters is what came before it.
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.#isClosed = true
      this.#wake()
    })
  }

  readonly headOnly: boolean

  /** Whether the other end closed, or we did. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Everything received so far, a character for a byte. */
  get text(): string {
    // Joined here and not on arrival, where the cost of many pieces would grow with its square.
    if (this.#received.length > 1) this.#received = [Buffer.concat(this.#received)]
    return this.#received[0]?.toString('latin1') ?? ''
  }

  /** Writes; strings as latin1, so that any byte can be said. */
  send(bytes: string | Uint8Array): this {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes)
    return this
  }

  /** Writes without end until the other end closes or `enough` says so; resolves with the bytes sent. At the pace of the socket. */
  async pour(piece: Uint8Array, enough: () => boolean): Promise<number> {
    let sentBytes = 0
    while (!this.#isClosed && !enough()) {
      sentBytes += piece.byteLength
      if (!this.socket.write(piece))
        await this.#until('the other end takes more', () => !this.socket.writableNeedDrain, 20_000)
    }
    return sentBytes
  }

  /** From here on reads at most so many bytes 50 times a second, and keeps none of them. */
  readSlowly(bytesPerTick: number): { readonly readBytes: number; stop(): void } {
    const { socket } = this
    socket.removeAllListeners('data')
    socket.pause()
    let readBytes = 0
    const timer = setInterval(() => {
      if (bytesPerTick === 0) return
      const piece: unknown = socket.read(Math.min(bytesPerTick, socket.readableLength))
      if (Buffer.isBuffer(piece)) readBytes += piece.byteLength
    }, 20)
    return {
      get readBytes() {
        return readBytes
      },
      stop: () => clearInterval(timer),
    }
  }

  /** The complete answers so far. */
  responses(): RawResponse[] {
    return parseResponses(this.text, this.headOnly)
  }

  /** The first answer; rejects when the connection closes without one, or after `limitMs`. */
  async response(limitMs = 10_000): Promise<RawResponse> {
    await this.#until('an answer', () => this.responses().length > 0, limitMs)
    const [first] = this.responses()
    noteAnswer(first?.body ?? '', first?.headers.get('mcp-session-id'))
    if (first === undefined)
      throw new Error(`closed without an answer: ${JSON.stringify(this.text.slice(0, 300))}`)
    return first
  }

  /** Resolves when the other end has closed the connection. */
  async closed(limitMs = 10_000): Promise<void> {
    await this.#until('the connection is closed', () => false, limitMs)
  }

  destroy(): void {
    this.socket.destroy()
  }

  #until(what: string, condition: () => boolean, limitMs: number): Promise<void> {
    return within(
      what,
      new Promise((resolve) => {
        const look = (): void => {
          if (!condition() && !this.#isClosed) return
          this.#waiters.delete(look)
          resolve()
        }
        this.#waiters.add(look)
        look()
      }),
      limitMs,
    )
  }

  #wake(): void {
    for (const look of this.#waiters) look()
  }
}

/** The Host header of a request by hand. */
export const HOST = 'Host: localhost\r\n'

/** A POST to the MCP endpoint `/mcp/files`. `headers` are whole lines. */
export function mcpPost(headers: string, body = ''): string {
  const accepts = 'Accept: application/json, text/event-stream\r\n'
  return `POST /mcp/files HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${accepts}${headers}\r\n${body}`
}

/** The Content-Length line of a body in ASCII. */
export function sized(body: string): string {
  return `Content-Length: ${body.length}\r\n`
}

/** The body as one chunk, and the end. */
export function chunked(body: string): string {
  return `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
}

/** Path and query of a URL. */
export function pathOf(url: string): string {
  const { pathname, search } = new URL(url)
  return pathname + search
}

/** The code of an error of the adapter's own, whichever format the route has. */
export function errorCode({ body }: Pick<RawResponse, 'body'>): unknown {
  const value = JSON.parse(body) as { error?: unknown } // the adapter's errors are JSON objects
  if (typeof value.error === 'string') return value.error
  return (value.error as { data?: { code?: unknown } } | undefined)?.data?.code
}

/** Sends one request on a connection of its own and resolves with its answer; the connection is dropped then. */
export async function askRaw(
  port: number,
  request: string | Uint8Array,
  options: { readonly headOnly?: boolean } = {},
): Promise<RawResponse> {
  const connection = new RawConnection(port, options).send(request)
  try {
    return await connection.response()
  } finally {
    connection.destroy()
  }
}

function parseResponses(text: string, headOnly: boolean): RawResponse[] {
  const responses: RawResponse[] = []
  let rest = text
  for (;;) {
    const end = rest.indexOf('\r\n\r\n')
    if (end === -1) return responses
    const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1] ?? Number.NaN)
    if (Number.isNaN(status)) throw new Error(`no status line: ${JSON.stringify(statusLine)}`)
    const headers = headersOf(lines)
    const taken = bodyOf(rest.slice(end + 4), headers, headOnly || status < 200)
    if (taken === undefined) return responses
    if (status >= 200) responses.push({ status, headers, body: taken.body })
    rest = rest.slice(end + 4 + taken.length)
  }
}

function headersOf(lines: readonly string[]): Map<string, string> {
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  return headers
}

/** Undefined while it is not complete. */
function bodyOf(
  text: string,
  headers: ReadonlyMap<string, string>,
  isEmpty: boolean,
): { body: string; length: number } | undefined {
  if (isEmpty) return { body: '', length: 0 }
  if (headers.get('transfer-encoding') === 'chunked') return chunkedBody(text)
  const length = Number(headers.get('content-length') ?? 0)
  return text.length < length ? undefined : { body: text.slice(0, length), length }
}

function chunkedBody(text: string): { body: string; length: number } | undefined {
  let body = ''
  let at = 0
  for (;;) {
    const line = text.indexOf('\r\n', at)
    if (line === -1) return undefined
    const size = text.slice(at, line)
    if (!/^[0-9a-f]+$/i.test(size)) throw new Error(`no chunk size: ${JSON.stringify(size)}`)
    const length = Number.parseInt(size, 16)
    const after = line + 2 + length
    if (text.length < after + 2) return undefined
    body += text.slice(line + 2, after)
    at = after + 2
    if (length === 0) return { body, length: at }
  }
}
