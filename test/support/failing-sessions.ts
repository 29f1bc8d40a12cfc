// Clients whose sessions go wrong: each opens one, makes a call that fails in its way, and mostly ends the session.
import { Agent, request as httpRequest } from 'node:http'

import { SLOW, WAYS } from './upstreams/failing-calls.ts'
import { POST_HEADERS } from './wire.ts'

const AT_ONCE = 24
/** One in so many is forgotten by its client: it ends by its idle time. */
const FORGOTTEN = 50
/** When a request is on its way. In milliseconds. */
const ON_ITS_WAY_MS = 10

/** When a client gives up. */
type Leave = 'soon' | 'at head' | 'at bytes' | undefined

interface Seen {
  readonly status: number
  readonly sessionId: string | undefined
  readonly body: string
}

/** See the file comment. */
export class FailingSessions {
  readonly #url: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 2 * AT_ONCE })
  /** What an `initialize` got that should have opened a session and did not. */
  readonly failedOpenings: string[] = []
  /** Answers to calls that should not fail, and did. */
  readonly failedCalls: string[] = []

  /** `url` is that of the endpoint. */
  constructor(url: string) {
    this.#url = url
  }

  /** Resolves when so many sessions have been, several at a time. */
  async run(count: number): Promise<void> {
    let next = 0
    const lane = async (): Promise<void> => {
      // oxlint-disable-next-line no-await-in-loop -- as one client after the other
      while (next < count) await this.#session(next++)
    }
    await Promise.all(Array.from({ length: AT_ONCE }, lane))
  }

  /** Cuts the clients' connections. */
  close(): void {
    this.#agent.destroy()
  }

  async #session(number: number): Promise<void> {
    const way = WAYS[number % WAYS.length] ?? 'fine'
    const name = way === 'opening reset' ? 'reset' : way === 'opening left' ? SLOW : 'leaks'
    const opened = await this.#send(
      'POST',
      undefined,
      initializeBy(name),
      way === 'opening left' ? 'soon' : undefined,
    )
    const id = opened?.sessionId
    if (id === undefined) {
      if (name === 'leaks') this.failedOpenings.push(asText(opened))
      return
    }
    if (way === 'get') await this.#send('GET', id, undefined, 'at head')
    else {
      const params = { name: way, arguments: {}, _meta: { progressToken: 7 } }
      const leave = way === 'hang' ? 'soon' : way === 'stream left' ? 'at bytes' : undefined
      const seen = await this.#send('POST', id, { id: 2, method: 'tools/call', params }, leave)
      if (way === 'fine' && seen?.status !== 200) this.failedCalls.push(asText(seen))
    }
    if (number % FORGOTTEN !== 0) await this.#send('DELETE', id, undefined)
  }

  /** Sends a request, of which a client may have enough before its end. Resolves however it ends. */
  #send(
    method: string,
    sessionId: string | undefined,
    message: object | undefined,
    leave?: Leave,
  ): Promise<Seen | undefined> {
    return new Promise((resolve) => {
      const headers = {
        ...POST_HEADERS,
        ...(method === 'GET' ? { accept: 'text/event-stream' } : {}),
        ...(sessionId === undefined ? {} : { 'mcp-session-id': sessionId }),
      }
      const options = { method, headers, agent: this.#agent }
      const sent = httpRequest(this.#url, options, (response) => {
        const id = response.headers['mcp-session-id']?.toString()
        let body = ''
        response.on('data', (part: Buffer) => {
          body += part.toString('latin1')
          if (leave === 'at bytes') sent.destroy()
        })
        response.on('close', () =>
          resolve({ status: response.statusCode ?? 0, sessionId: id, body }),
        )
        response.on('error', () => {})
        if (leave === 'at head') sent.destroy()
      })
      sent.on('error', () => resolve(undefined))
      sent.end(message === undefined ? undefined : JSON.stringify({ jsonrpc: '2.0', ...message }))
      if (leave === 'soon') setTimeout(() => sent.destroy(), ON_ITS_WAY_MS)
    })
  }
}

function initializeBy(name: string): object {
  const params = {
    protocolVersion: '2025-06-18',
    capabilities: {},
    clientInfo: { name, version: '1' },
  }
  return { id: 1, method: 'initialize', params }
}

function asText(seen: Seen | undefined): string {
  return seen === undefined ? 'no answer' : `${seen.status} ${seen.body}`
}
