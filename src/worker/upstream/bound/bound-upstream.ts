/**
 * An upstream behind a transport that is bound to a connection (stdio, legacy SSE). Towards the worker it acts as a Streamable HTTP server of revision
 * 2025-11-25 and before does: `initialize` opens a connection and names it in `mcp-session-id`; a connection that is lost is a session that is unknown.
 */
import { randomBytes } from 'node:crypto'

import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { headerValue } from '../../../shared/frames/header-list.ts'
import { toAdapterError } from '../../exchange/adapter-error.ts'
import { isObject, readEnvelope } from '../../exchange/json-rpc.ts'
import type { Envelope, Message } from '../../exchange/json-rpc.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from '../upstream.ts'
import { BoundAnswer } from './bound-answer.ts'
import { BoundSession } from './bound-session.ts'
import { tryBound } from './bound-trial.ts'
import type { MessageTransport } from './message-connection.ts'

/** Revisions that have `initialize`, as servers list them. */
const REVISIONS = '2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05'
/** Longest time between two looks for connections that nobody uses, in milliseconds. */
const MAX_IDLE_CHECK_MS = 60_000
const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion'

/** What such an upstream is made of. */
export interface BoundUpstreamOptions {
  readonly transport: MessageTransport
  /** Longest time from opening a connection to the answer to `initialize`, in milliseconds. */
  readonly initializeTimeoutMs: number
  /**
   * A connection that nobody uses for longer is closed, in milliseconds; null for never. Sessions that expire are ended by a DELETE; this is for those
   * whose DELETE never comes.
   */
  readonly idleLimitMs: number | null
}

/** See the file comment. */
export class BoundUpstream implements Upstream {
  readonly #options: BoundUpstreamOptions
  readonly #sessions = new Map<string, BoundSession>()
  /** Sessions that are being opened. */
  readonly #opening = new Set<AbortController>()
  readonly #idleCheck: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: BoundUpstreamOptions) {
    this.#options = options
    const { idleLimitMs } = options
    if (idleLimitMs === null) return
    const intervalMs = Math.min(MAX_IDLE_CHECK_MS, idleLimitMs / 2)
    this.#idleCheck = setInterval(() => this.#closeIdle(idleLimitMs), intervalMs)
    this.#idleCheck.unref()
  }

  /** How many connections are open. */
  get size(): number {
    return this.#sessions.size
  }

  /** Never calls the listener before it returns. */
  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    const answer = new BoundAnswer(listener)
    process.nextTick(() => {
      if (answer.isOver) return
      if (this.#isClosed) answer.fail(stopping())
      else this.#serve(request, answer)
    })
    return answer
  }

  trial(timeoutMs: number): Promise<void> {
    const { initializeTimeoutMs } = this.#options
    return tryBound(this, { initializeTimeoutMs, pingTimeoutMs: timeoutMs })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#idleCheck)
    for (const opening of this.#opening) opening.abort(stopping())
    await Promise.all([...this.#sessions.values()].map((session) => session.close(stopping())))
    await this.#options.transport.close()
  }

  #closeIdle(limitMs: number): void {
    for (const session of this.#sessions.values())
      if (session.idleMs > limitMs) void session.close()
  }

  #serve(request: UpstreamRequest, answer: BoundAnswer): void {
    const { method, headers, body } = request
    const id = headerValue(headers, 'mcp-session-id')
    if (method === 'POST') {
      this.#post(answer, body ?? '', headers, id)
      return
    }
    const session = this.#find(answer, id)
    if (session === undefined) return
    if (method === 'GET') session.stream(answer)
    // Who ends a session may remove its files next: what used them is to be gone by then.
    else void session.close().then(() => answer.confirm(200))
  }

  #post(
    answer: BoundAnswer,
    body: Uint8Array | string,
    headers: HeaderList,
    id: string | undefined,
  ): void {
    let envelope: Envelope
    try {
      envelope = readEnvelope(body)
    } catch (error) {
      const { message } = toAdapterError(error)
      answer.refuse(400, -32700, `Parse error: ${message}`)
      return
    }
    const claim = claimOf(envelope)
    const [first] = envelope.messages
    if (claim !== undefined) {
      const requestId = first?.kind === 'request' ? first.id : null
      const message = `Bad Request: Unsupported protocol version: ${claim} (supported versions: ${REVISIONS})`
      answer.refuse(400, -32000, message, requestId)
      return
    }
    const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body
    const isInitialize = first?.kind === 'request' && first.method === 'initialize'
    if (id === undefined && isInitialize && !envelope.isBatch) {
      void this.#initialize(answer, first, bytes, headers)
      return
    }
    const session = this.#find(answer, id)
    if (session !== undefined && isInitialize)
      answer.refuse(400, -32600, 'Invalid Request: Server already initialized', first.id)
    else session?.post(answer, envelope, bytes, headers)
  }

  /** Refuses as servers do when there is none. */
  #find(answer: BoundAnswer, id: string | undefined): BoundSession | undefined {
    const session = id === undefined ? undefined : this.#sessions.get(id)
    if (id === undefined)
      answer.refuse(400, -32000, 'Bad Request: Mcp-Session-Id header is required')
    else if (session === undefined) answer.refuse(404, -32001, 'Session not found')
    return session
  }

  async #initialize(
    answer: BoundAnswer,
    request: Extract<Message, { kind: 'request' }>,
    body: Uint8Array,
    headers: HeaderList,
  ): Promise<void> {
    const { transport, initializeTimeoutMs } = this.#options
    const id = randomBytes(24).toString('base64url')
    const session = new BoundSession(id, () => this.#sessions.delete(id))
    const opening = new AbortController()
    const timer = setTimeout(() => opening.abort(tooSlow(initializeTimeoutMs)), initializeTimeoutMs)
    // Nobody would ever learn the id.
    answer.belongTo({ onAbort: () => opening.abort(stopping()), onHeld: () => {} })
    this.#opening.add(opening)
    try {
      const { signal } = opening
      const response = await session.initialize(transport, request, body, { headers, signal })
      if (isObject(response.value['result']) && !session.isOver) {
        this.#sessions.set(id, session)
        answer.respond(200, response.bytes, ['mcp-session-id', id])
      } else {
        answer.respond(200, response.bytes)
        await session.close()
      }
    } catch (error) {
      answer.fail(toAdapterError(error))
    } finally {
      clearTimeout(timer)
      this.#opening.delete(opening)
    }
  }
}

/** The revision without sessions that a message claims, if it does. */
function claimOf({ isBatch, messages }: Envelope): string | undefined {
  const [message] = messages
  if (isBatch || message === undefined || message.kind === 'response') return undefined
  const meta = message.params?.['_meta']
  const claim = isObject(meta) ? meta[VERSION_KEY] : undefined
  return typeof claim === 'string' ? claim : undefined
}

function stopping(): AdapterError {
  return new AdapterError('ADAPTER_STOPPING', 'this replica is stopping; repeat the request')
}

function tooSlow(ms: number): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_TIMEOUT',
    `the upstream server did not answer initialize within ${ms / 1_000} s`,
  )
}
