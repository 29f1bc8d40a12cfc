// A client that sees bytes: requests over node:http, answers whole or as they come, and a session made by hand.

import { Agent, request as httpRequest, type IncomingHttpHeaders } from 'node:http'

import { eventually, within } from './eventually.ts'
import { noteAnswer, noteSecrets } from './secret-scan.ts'

/** A request as it goes out. */
export interface WireRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  /** Takes the bytes of the answer in place of keeping them: for answers too large to keep. */
  readonly sink?: (part: Buffer) => void
  /** Closes the connection. */
  readonly signal?: AbortSignal
}

/** A whole answer. */
export interface WireAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
  /** The body parsed; throws when it isn't JSON. */
  json(): RpcAnswer
}

/** What tests look at in a JSON-RPC answer. */
export interface RpcAnswer {
  readonly id?: unknown
  readonly method?: string
  readonly params?: Readonly<Record<string, unknown>>
  readonly result?: Readonly<Record<string, unknown>>
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown }
}

/** An answer while it comes. */
export interface WireStream {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** The bytes so far. */
  bytes(): Buffer
  text(): string
  /** Waits until the text so far holds `part`. */
  until(part: string): Promise<void>
  /** How it ended: properly, or cut off. */
  readonly ended: Promise<'end' | 'cut'>
  /** Stops reading from the socket, as a slow client does. */
  pause(): void
  resume(): void
  /** Closes the connection. */
  close(): void
}

const agent = new Agent({ keepAlive: true })

/** Headers of an ordinary POST. */
export const POST_HEADERS = {
  accept: 'application/json, text/event-stream',
  'content-type': 'application/json',
} as const

/** Sends a request; resolves with the head of the answer. Rejects when no answer comes. */
export function open(url: string, options: WireRequest = {}): Promise<WireStream> {
  const { method = 'POST', headers = {}, body, sink, signal } = options
  const answer = new Promise<WireStream>((resolve, reject) => {
    const outgoing = httpRequest(url, { method, headers, agent, signal }, (incoming) => {
      const parts: Buffer[] = []
      noteSecrets([incoming.headers['mcp-session-id'] ?? []].flat())
      incoming.on('data', sink ?? ((part: Buffer) => parts.push(part)))
      const ended = new Promise<'end' | 'cut'>((settle) => {
        incoming.on('end', () => settle('end'))
        incoming.on('error', () => settle('cut'))
        incoming.on('close', () => settle('cut'))
      })
      const bytes = (): Buffer => Buffer.concat(parts)
      const text = (): string => bytes().toString('utf8')
      resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        bytes,
        text,
        until: (part) => eventually(`${part} in ${text()}`, () => text().includes(part)),
        ended,
        pause: () => incoming.pause(),
        resume: () => incoming.resume(),
        close: () => outgoing.destroy(),
      })
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
  return within(`an answer to ${method} ${url}`, answer, 20_000)
}

/** Sends a request and takes the whole answer; rejects when it is cut short. */
export async function send(url: string, options: WireRequest = {}): Promise<WireAnswer> {
  const stream = await open(url, options)
  const how = await within('the end of the answer', stream.ended, 20_000)
  if (how === 'cut') throw new Error(`the answer was cut off after ${stream.text()}`)
  const body = stream.text()
  noteAnswer(body)
  // What it holds is for the test to check.
  const json = (): RpcAnswer => JSON.parse(body) as RpcAnswer
  return { status: stream.status, headers: stream.headers, body, json }
}

/** The messages in the text of an event stream, in order. */
export function messagesIn(text: string): RpcAnswer[] {
  return text
    .split(/\r\n\r\n|\n\n|\r\r/)
    .map((block) =>
      block
        .split(/\r\n|\n|\r/)
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(5).trim())
        .join('\n'),
    )
    .filter((data) => data !== '')
    .map((data) => JSON.parse(data) as RpcAnswer) // what it holds is for the test to check
}

/** The one answer in a body that may be JSON or an event stream. */
export function answerIn(answer: WireAnswer): RpcAnswer {
  const isStream = answer.headers['content-type']?.startsWith('text/event-stream') === true
  const found = isStream
    ? messagesIn(answer.body).find((message) => message.method === undefined)
    : answer.json()
  if (found === undefined) throw new Error(`no answer in ${answer.body}`)
  return found
}

/** A session of a hand-made client. */
export class WireSession {
  readonly url: string
  readonly id: string
  readonly version: string
  readonly #always: Readonly<Record<string, string>>
  #nextId = 1

  constructor(
    url: string,
    id: string,
    version: string,
    /** Headers that go with every request. */
    always: Readonly<Record<string, string>> = {},
  ) {
    this.url = url
    this.id = id
    this.version = version
    this.#always = always
  }

  /** Initialises; rejects when that gives no session. */
  static async open(
    url: string,
    options: { version?: string; headers?: Readonly<Record<string, string>> } = {},
  ): Promise<WireSession> {
    const { version = '2025-06-18', headers = {} } = options
    const answer = await initialize(url, version, headers)
    const id = answer.headers['mcp-session-id']
    if (answer.status !== 200 || typeof id !== 'string')
      throw new Error(`initialize was answered ${answer.status} ${answer.body}`)
    const session = new WireSession(url, id, version, headers)
    await session.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
    return session
  }

  /** Headers of a request in this session; revision 2025-03-26 has no version header. */
  get headers(): Readonly<Record<string, string>> {
    return {
      ...POST_HEADERS,
      ...this.#always,
      'mcp-session-id': this.id,
      ...(this.version === '2025-03-26' ? {} : { 'mcp-protocol-version': this.version }),
    }
  }

  /** Posts a message, or text as it is. */
  post(message: unknown, headers: Readonly<Record<string, string>> = {}): Promise<WireAnswer> {
    return send(this.url, { headers: { ...this.headers, ...headers }, body: asBody(message) })
  }

  /** Posts a message; resolves with the head of the answer. */
  stream(message: unknown, headers: Readonly<Record<string, string>> = {}): Promise<WireStream> {
    return open(this.url, { headers: { ...this.headers, ...headers }, body: asBody(message) })
  }

  /** A request with the next id. */
  request(method: string, params?: Readonly<Record<string, unknown>>): Promise<WireAnswer> {
    return this.post(this.message(method, params))
  }

  /** The message of a request with the next id. */
  message(
    method: string,
    params?: Readonly<Record<string, unknown>>,
  ): { jsonrpc: string; id: number; method: string; params?: unknown } {
    return {
      jsonrpc: '2.0',
      id: this.#nextId++,
      method,
      ...(params === undefined ? {} : { params }),
    }
  }

  /** A `tools/call`. */
  call(name: string, args: Readonly<Record<string, unknown>> = {}): Promise<WireAnswer> {
    return this.request('tools/call', { name, arguments: args })
  }

  /** Opens the standalone stream. */
  get(headers: Readonly<Record<string, string>> = {}, signal?: AbortSignal): Promise<WireStream> {
    const { 'content-type': _, ...own } = this.headers as Record<string, string> // a copy to take from
    return open(this.url, {
      method: 'GET',
      headers: { ...own, accept: 'text/event-stream', ...headers },
      ...(signal === undefined ? {} : { signal }),
    })
  }

  delete(): Promise<WireAnswer> {
    return send(this.url, { method: 'DELETE', headers: this.headers })
  }
}

/** Posts an `initialize`. */
export function initialize(
  url: string,
  version = '2025-06-18',
  headers: Readonly<Record<string, string>> = {},
): Promise<WireAnswer> {
  const params = {
    protocolVersion: version,
    capabilities: {},
    clientInfo: { name: 'wire', version: '1' },
  }
  return send(url, {
    headers: { ...POST_HEADERS, ...headers },
    body: asBody({ jsonrpc: '2.0', id: 'init', method: 'initialize', params }),
  })
}

function asBody(message: unknown): string {
  return typeof message === 'string' ? message : JSON.stringify(message)
}
