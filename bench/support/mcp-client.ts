/** A small MCP client for setting scenes: opens sessions and makes single calls, as fast as needed to open ten thousand. */
import { Agent, request } from 'undici'

/** The revision that all scenarios speak. */
export const PROTOCOL_VERSION = '2025-11-25'

/** Where to connect, and how to be let in. */
export interface Target {
  readonly url: string
  /** Sent with every request, the adapter's token for example. */
  readonly headers: Readonly<Record<string, string>>
}

/** Headers of every POST of a session. */
export function postHeaders(target: Target, sessionId?: string): Record<string, string> {
  return {
    ...target.headers,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...(sessionId === undefined
      ? {}
      : { 'mcp-session-id': sessionId, 'mcp-protocol-version': PROTOCOL_VERSION }),
  }
}

/** The body of a request. */
export function requestBody(method: string, params: object): string {
  return JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
}

/** The body of a tool call. */
export function callBody(name: string, args: object): string {
  return requestBody('tools/call', { name, arguments: args })
}

const INITIALIZE = requestBody('initialize', {
  protocolVersion: PROTOCOL_VERSION,
  capabilities: {},
  clientInfo: { name: 'bench', version: '1.0.0' },
})

/** See the file comment. */
export class McpClient {
  readonly #target: Target
  readonly #agent = new Agent({ connections: 32, headersTimeout: 120_000, bodyTimeout: 120_000 })

  constructor(target: Target) {
    this.#target = target
  }

  /** Opens a session; answers its id. */
  async open(): Promise<string> {
    const { headers } = await this.#post(INITIALIZE, undefined)
    const sessionId = headers['mcp-session-id']
    if (typeof sessionId !== 'string') throw new Error('initialize answered without Mcp-Session-Id')
    await this.#post('{"jsonrpc":"2.0","method":"notifications/initialized"}', sessionId)
    return sessionId
  }

  /** Opens many sessions, 32 at a time. */
  async openMany(count: number): Promise<string[]> {
    return inParallel(count, 32, () => this.open())
  }

  /** Ends sessions, 32 at a time. */
  async closeMany(sessionIds: readonly string[]): Promise<void> {
    await inParallel(sessionIds.length, 32, async (index) => {
      const answer = await request(this.#target.url, {
        method: 'DELETE',
        headers: postHeaders(this.#target, sessionIds[index] ?? ''),
        dispatcher: this.#agent,
      })
      await answer.body.dump()
    })
  }

  /** The result of a request; throws on an error of any kind, also that of a tool. */
  async request(
    sessionId: string,
    method: string,
    params: object,
  ): Promise<Record<string, unknown>> {
    const { text } = await this.#post(requestBody(method, params), sessionId)
    // What a JSON-RPC answer is; each member is looked at before it is used.
    const message = JSON.parse(jsonOf(text)) as { result?: Record<string, unknown> }
    if (message.result === undefined || message.result['isError'] === true) {
      throw new Error(`${method} failed: ${text.slice(0, 500)}`)
    }
    return message.result
  }

  /** The result of a tool call; throws as `request` does. */
  call(sessionId: string, name: string, args: object): Promise<Record<string, unknown>> {
    return this.request(sessionId, 'tools/call', { name, arguments: args })
  }

  /** Puts a small file into a session; answers its handle. `serverId` is the one that the target's URL belongs to. */
  async upload(sessionId: string, serverId: string, content: Uint8Array): Promise<string> {
    const url = await this.uploadUrl(sessionId, serverId)
    const answer = await request(url, {
      method: 'PUT',
      body: content,
      headers: { 'content-type': 'application/octet-stream' },
      dispatcher: this.#agent,
    })
    const text = await answer.body.text()
    const handle: unknown = /"upload_handle":"([^"]+)"/.exec(text)?.[1]
    if (typeof handle !== 'string') throw new Error(`upload answered ${answer.statusCode}: ${text}`)
    return handle
  }

  /** A fresh one-time upload URL at this target's own address. */
  async uploadUrl(sessionId: string, serverId: string): Promise<string> {
    const result = await this.call(sessionId, `${serverId}_get_upload_url`, {})
    const structured = result['structuredContent']
    const url: unknown =
      typeof structured === 'object' && structured !== null && 'upload_url' in structured
        ? structured.upload_url
        : undefined
    if (typeof url !== 'string') throw new Error('the helper tool answered without an upload URL')
    const { pathname, search } = new URL(url)
    return new URL(pathname + search, this.#target.url).href
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  async #post(body: string, sessionId: string | undefined) {
    const answer = await request(this.#target.url, {
      method: 'POST',
      body,
      headers: postHeaders(this.#target, sessionId),
      dispatcher: this.#agent,
    })
    const text = await answer.body.text()
    if (answer.statusCode >= 300) {
      throw new Error(`${this.#target.url} answered ${answer.statusCode}: ${text.slice(0, 500)}`)
    }
    return { text, headers: answer.headers }
  }
}

/** Runs `count` pieces of work, `width` at a time, and answers their results in order. */
export async function inParallel<T>(
  count: number,
  width: number,
  work: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < count) {
      const index = next++
      // oxlint-disable-next-line no-await-in-loop -- one piece a lane
      results[index] = await work(index)
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane))
  return results
}

/** The JSON of an answer, also when it came as an event stream of one message. */
function jsonOf(text: string): string {
  if (text.startsWith('{')) return text
  const data = text.split('\n').filter((line) => line.startsWith('data:'))
  return data.at(-1)?.slice(5) ?? 'null'
}
