/** Calls an `Upstream` directly and keeps what it answers. */
import type { AdapterError } from '../../src/shared/errors.ts'
import type { Upstream, UpstreamCall } from '../../src/worker/upstream/upstream.ts'
import { eventually } from './eventually.ts'
import { messagesIn } from './wire.ts'
import type { RpcAnswer } from './wire.ts'

/** An answer while it comes. */
export class UpstreamAnswer {
  status = 0
  headers: readonly string[] = []
  error: AdapterError | undefined
  isEnded = false
  text = ''
  readonly call: UpstreamCall

  constructor(
    upstream: Upstream,
    method: 'POST' | 'GET' | 'DELETE',
    headers: readonly string[],
    body: string | null,
  ) {
    this.call = upstream.call(
      { method, headers, body: body === null ? null : Buffer.from(body), isSafe: false },
      {
        head: (status, received) => {
          this.status = status
          this.headers = received
        },
        data: (chunk) => {
          this.text += Buffer.from(chunk).toString('utf8')
        },
        end: () => {
          this.isEnded = true
        },
        error: (error) => {
          this.error = error
        },
      },
    )
  }

  get isStream(): boolean {
    return this.headers.includes('text/event-stream')
  }

  /** The messages so far. */
  get messages(): readonly RpcAnswer[] {
    if (this.isStream) return messagesIn(this.text)
    // What it holds is for the test to check.
    return this.text === '' ? [] : [JSON.parse(this.text) as RpcAnswer]
  }

  /** The value of a header. */
  header(name: string): string | undefined {
    const at = this.headers.indexOf(name)
    return at === -1 ? undefined : this.headers[at + 1]
  }

  async ended(): Promise<this> {
    await eventually('the answer ends', () => this.isEnded || this.error !== undefined)
    return this
  }

  async began(): Promise<this> {
    await eventually('the answer begins', () => this.status !== 0 || this.error !== undefined)
    return this
  }
}

/** A client of one session, or of none. */
export class UpstreamClient {
  readonly #upstream: Upstream
  sessionId: string | undefined

  constructor(upstream: Upstream) {
    this.#upstream = upstream
  }

  /** Initialises, outside of any session; what follows belongs to the new one. */
  async initialize(id: unknown = 0): Promise<UpstreamAnswer> {
    const params = {
      protocolVersion: '2025-06-18',
      capabilities: {},
      clientInfo: { name: 'c', version: '1' },
    }
    this.sessionId = undefined
    const answer = await this.post({ jsonrpc: '2.0', id, method: 'initialize', params }).ended()
    this.sessionId = answer.header('mcp-session-id')
    return answer
  }

  /** Text is sent as it is. */
  post(message: unknown): UpstreamAnswer {
    const body = typeof message === 'string' ? message : JSON.stringify(message)
    return this.#send('POST', body)
  }

  request(id: unknown, method = 'tools/call', params: object = {}): UpstreamAnswer {
    return this.post({ jsonrpc: '2.0', id, method, params })
  }

  get(): UpstreamAnswer {
    return this.#send('GET', null)
  }

  delete(): UpstreamAnswer {
    return this.#send('DELETE', null)
  }

  #send(method: 'POST' | 'GET' | 'DELETE', body: string | null): UpstreamAnswer {
    const headers = this.sessionId === undefined ? [] : ['mcp-session-id', this.sessionId]
    return new UpstreamAnswer(this.#upstream, method, headers, body)
  }
}
