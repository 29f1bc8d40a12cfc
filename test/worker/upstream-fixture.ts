// Upstream servers that are written by hand, byte by byte, and a listener that notes what it was told.

import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

import type { AdapterError } from '../../src/shared/errors.ts'
import { Http1Client } from '../../src/worker/upstream/http1/http1-client.ts'
import type { Http1ClientOptions } from '../../src/worker/upstream/http1/http1-client.ts'
import type {
  AnswerListener,
  UpstreamCall,
  UpstreamRequest,
} from '../../src/worker/upstream/upstream.ts'
import { within } from '../support/eventually.ts'

/** A request as a server read it. */
export interface SeenRequest {
  readonly head: string
  readonly body: Buffer
}

/** A server that reads requests whole and does with each what the test says. */
export interface RawServer {
  readonly port: number
  readonly server: Server
  /** All connections so far, closed ones too. */
  readonly sockets: readonly Socket[]
  readonly requests: readonly SeenRequest[]
  open(): number
  /** Forgets the requests so far. */
  forget(): void
  stop(): Promise<void>
}

/** Answers one request. `number` counts them over all connections, from 1. */
export type Answerer = (socket: Socket, request: SeenRequest, number: number) => void

/** Starts a server on the loopback; `server` is listened on in place of a plain one. */
export async function startRawServer(
  answer: Answerer,
  server: Server = createServer(),
  event: 'connection' | 'secureConnection' = 'connection',
): Promise<RawServer> {
  const sockets: Socket[] = []
  const requests: SeenRequest[] = []
  let count = 0
  server.on(event, (socket: Socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    let held = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      held = Buffer.concat([held, chunk])
      for (;;) {
        const end = held.indexOf('\r\n\r\n')
        if (end === -1) return
        const head = held.toString('latin1', 0, end + 2)
        const length = Number(/\r\ncontent-length: (\d+)\r\n/.exec(head)?.[1] ?? 0)
        if (held.length < end + 4 + length) return
        const request = { head, body: Buffer.from(held.subarray(end + 4, end + 4 + length)) }
        held = held.subarray(end + 4 + length)
        requests.push(request)
        answer(socket, request, ++count)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    // A listening TCP server has such an address.
    port: (server.address() as AddressInfo).port,
    server,
    sockets,
    requests,
    open: () => sockets.filter((socket) => !socket.destroyed).length,
    forget: () => {
      requests.length = 0
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** An answerer that sends the same bytes to every request. */
export function always(bytes: string): Answerer {
  return (socket) => socket.write(bytes, 'latin1')
}

/** A client for `http://127.0.0.1:<port>/mcp`. */
export function clientOf(port: number, options: Partial<Http1ClientOptions> = {}): Http1Client {
  return new Http1Client({
    url: new URL(`http://127.0.0.1:${port}/mcp`),
    staticHeaders: [],
    maxConnections: null,
    connectTimeoutMs: 5_000,
    insecureTls: false,
    keepsHeader: (name) => name.startsWith('x-') || name === 'content-type',
    ...options,
  })
}

/** What a listener was told. */
export class Witness implements AnswerListener {
  status = 0
  headers: readonly string[] = []
  bytes = 0
  ends = 0
  heads = 0
  readonly errors: AdapterError[] = []
  readonly #chunks: Uint8Array[] = []
  readonly #on: Partial<AnswerListener>
  #settle: () => void = () => {}
  readonly over: Promise<void>

  /** `on` is called after noting. */
  constructor(on: Partial<AnswerListener> = {}) {
    this.#on = on
    this.over = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** The body. The chunks were kept as they were given. */
  get body(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  get code(): string | undefined {
    return this.errors[0]?.code
  }

  head(status: number, headers: readonly string[]): void {
    this.heads++
    this.status = status
    this.headers = headers
    this.#on.head?.(status, headers)
  }

  data(chunk: Uint8Array): void {
    this.bytes += chunk.byteLength
    this.#chunks.push(chunk)
    this.#on.data?.(chunk)
  }

  end(): void {
    this.ends++
    this.#on.end?.()
    this.#settle()
  }

  error(error: AdapterError): void {
    this.errors.push(error)
    this.#on.error?.(error)
    this.#settle()
  }
}

/** A POST that must not be sent twice, but for what is given. */
export function post(request: Partial<UpstreamRequest> = {}): UpstreamRequest {
  return { method: 'POST', headers: [], body: Buffer.from('hello'), isSafe: false, ...request }
}

/** Sends a request and waits for the end of its answer, or its failure. */
export async function ask(
  client: Http1Client,
  request: Partial<UpstreamRequest> = {},
  witness: Witness = new Witness(),
): Promise<Witness> {
  client.call(post(request), witness)
  await within('the answer', witness.over)
  return witness
}

/** Sends a request without waiting. */
export function begin(
  client: Http1Client,
  request: Partial<UpstreamRequest> = {},
  on: Partial<AnswerListener> = {},
): { call: UpstreamCall; witness: Witness } {
  const witness = new Witness(on)
  return { call: client.call(post(request), witness), witness }
}

/** An answer with a length. */
export function answerOf(body: string, headers: readonly string[] = []): string {
  const lines = ['HTTP/1.1 200 OK', `Content-Length: ${Buffer.byteLength(body)}`, ...headers]
  return `${lines.join('\r\n')}\r\n\r\n${body}`
}

/** A server and a client for it, closed at the end of the test. */
export async function pair(
  t: { teardown(handler: () => Promise<void>): unknown },
  answer: Answerer,
  options: Partial<Http1ClientOptions> = {},
): Promise<{ server: RawServer; client: Http1Client }> {
  const server = await startRawServer(answer)
  const client = clientOf(server.port, options)
  t.teardown(async () => {
    await client.close()
    await server.stop()
  })
  return { server, client }
}
