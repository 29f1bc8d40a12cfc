// Serves the sessionful protocol revisions (until 2025-11-25): one instance and one transport with an event store per session.

import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { isInitializeRequest, type JSONRPCMessage } from '@modelcontextprotocol/server'
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { noted } from '../../secret-scan.ts'
import { EventLog } from '../event-log.ts'
import { headerOf, sendRpcError } from '../http-fixture.ts'
import type { Change, EverythingContext } from './everything-context.ts'
import { createEverythingInstance } from './everything-instance.ts'

const retryIntervalMs = 500

interface Session {
  readonly transport: NodeStreamableHTTPServerTransport
  announce(change: Change): void
}

/** The sessions of one everything server. */
export class SessionHost {
  readonly #context: EverythingContext
  readonly #sessions = new Map<string, Session>()

  constructor(context: EverythingContext) {
    this.#context = context
    context.onChange((change) => {
      for (const session of this.#sessions.values()) session.announce(change)
    })
  }

  /** Ids of the sessions that are open now. */
  ids(): readonly string[] {
    return [...this.#sessions.keys()]
  }

  /** Serves one request; `body` is the parsed body of a POST. 404 for an unknown session, 400 for none. */
  async handle(request: IncomingMessage, response: ServerResponse, body: unknown): Promise<void> {
    const id = headerOf(request, 'mcp-session-id')
    const session = id === undefined ? undefined : this.#sessions.get(id)
    if (session) return session.transport.handleRequest(request, response, body)
    if (id !== undefined)
      return sendRpcError(response, 404, { code: -32001, message: 'Session not found' })
    if (!startsSession(body)) {
      return sendRpcError(response, 400, { code: -32000, message: 'Bad Request: no session id' })
    }
    const transport = await this.#open()
    return transport.handleRequest(request, response, body)
  }

  /** Forgets every session, so that the next request of each of them is answered 404. */
  async drop(): Promise<void> {
    const sessions = [...this.#sessions.values()]
    this.#sessions.clear()
    await Promise.all(sessions.map((session) => session.transport.close()))
  }

  async #open(): Promise<NodeStreamableHTTPServerTransport> {
    const subscribed = new Set<string>()
    const server = createEverythingInstance(this.#context, subscribed)
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: () => noted(randomUUID()),
      eventStore: new EventLog<JSONRPCMessage>(),
      retryInterval: retryIntervalMs,
      onsessioninitialized: (id) => {
        this.#sessions.set(id, { transport, announce })
      },
      onsessionclosed: (id) => {
        this.#sessions.delete(id)
      },
    })
    const announce = (change: Change): void => {
      if (change.kind === 'tools') server.sendToolListChanged()
      else if (change.kind === 'prompts') server.sendPromptListChanged()
      else if (change.kind === 'resources') server.sendResourceListChanged()
      else if (subscribed.has(change.uri))
        void server.server.sendResourceUpdated({ uri: change.uri })
    }
    await server.connect(transport)
    return transport
  }
}

function startsSession(body: unknown): boolean {
  return Array.isArray(body)
    ? body.some((message) => isInitializeRequest(message))
    : isInitializeRequest(body)
}
