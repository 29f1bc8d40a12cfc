// Clients of the HTTP+SSE transport (2024-11-05): the official SDK's, and one that sees bytes.

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'

import { noteSecrets } from './secret-scan.ts'
import { messagesIn, open, send } from './wire.ts'
import type { RpcAnswer, WireAnswer, WireStream } from './wire.ts'

type Headers = Readonly<Record<string, string>>

/** Connects the SDK's client to a mount path; `prepare` may set handlers before it initialises. */
export async function connectLegacy(
  mount: string,
  options: {
    readonly headers?: Headers
    readonly capabilities?: Readonly<Record<string, object>>
    readonly prepare?: (client: Client) => void
  } = {},
): Promise<Client> {
  const { headers = {}, capabilities = {}, prepare } = options
  const client = new Client({ name: 'legacy', version: '1' }, { capabilities })
  prepare?.(client)
  await client.connect(
    new SSEClientTransport(new URL(`${mount}/sse`), { requestInit: { headers } }),
  )
  return client
}

/** A client made by hand. */
export class LegacyWire {
  readonly stream: WireStream
  /** Where its messages go. */
  readonly endpoint: string
  readonly #headers: Headers

  private constructor(stream: WireStream, endpoint: string, headers: Headers) {
    this.stream = stream
    this.endpoint = endpoint
    this.#headers = headers
  }

  /** Opens a stream and waits for its endpoint. */
  static async open(mount: string, headers: Headers = {}): Promise<LegacyWire> {
    const url = `${mount}/sse`
    const stream = await open(url, {
      method: 'GET',
      headers: { accept: 'text/event-stream', ...headers },
    })
    if (stream.status !== 200) throw new Error(`answered ${stream.status}`)
    await stream.until('\n\n')
    const reference = /event: endpoint\ndata: (.*)\n\n/.exec(stream.text())?.[1] ?? ''
    const endpoint = new URL(reference, url)
    noteSecrets([endpoint.searchParams.get('sessionId')?.split('.')[1] ?? []].flat())
    return new LegacyWire(stream, endpoint.href, headers)
  }

  /** The messages that have come. */
  messages(): RpcAnswer[] {
    return messagesIn(this.stream.text().replace(/event: endpoint\ndata: .*\n\n/, ''))
  }

  /** Posts a message, or text as it is. */
  post(message: unknown, headers: Headers = {}): Promise<WireAnswer> {
    const body = typeof message === 'string' ? message : JSON.stringify(message)
    return send(this.endpoint, {
      headers: { 'content-type': 'application/json', ...this.#headers, ...headers },
      body,
    })
  }

  /** Makes the session. */
  async initialize(version = '2024-11-05'): Promise<void> {
    const clientInfo = { name: 'wire', version: '1' }
    const params = { protocolVersion: version, capabilities: {}, clientInfo }
    const answer = await this.post({ jsonrpc: '2.0', id: 'init', method: 'initialize', params })
    if (answer.status !== 202) throw new Error(`initialize was answered ${answer.status}`)
    await this.stream.until('protocolVersion')
    await this.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
  }

  /** Sends a request and waits for its response. */
  async request(id: number, method: string, params: object = {}): Promise<RpcAnswer> {
    const answer = await this.post({ jsonrpc: '2.0', id, method, params })
    if (answer.status !== 202) throw new Error(`answered ${answer.status} ${answer.body}`)
    return this.response(id)
  }

  /** Waits for the response to a request. */
  async response(id: number): Promise<RpcAnswer> {
    await this.stream.until(`"id":${id}`)
    const found = this.messages().find((one) => one.id === id && one.method === undefined)
    if (found === undefined) throw new Error(`no response in ${this.stream.text()}`)
    return found
  }
}
