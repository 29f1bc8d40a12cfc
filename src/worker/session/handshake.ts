/** Opening and ending sessions towards the upstream: `initialize` for a client, again for a lost upstream session, and DELETE. */
import { setTimeout as delay } from 'node:timers/promises'

import type { ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { mintSessionId, ownerOf } from '../../shared/ids.ts'
import type { SessionId } from '../../shared/ids.ts'
import type { Log } from '../../shared/log.ts'
import { shortId } from '../../shared/redaction.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type { JsonObject, SessionRecord } from '../../shared/state/records.ts'
import { isEventStream } from '../exchange/media-type.ts'
import { isObject, parseJson } from '../exchange/json-rpc.ts'
import { messageOf } from '../exchange/sse.ts'
import { collectAnswer } from '../upstream/collect.ts'
import { upstreamHeaders } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import type { SessionRegistry } from './registry.ts'
import { withRoots } from './rooted.ts'
import { unknownSession } from './registry.ts'
import type { Session } from './session.ts'

/** Longest wait for an upstream to answer a request of our own, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 15_000
/** How long one replica has the task of initialising an upstream session again, in milliseconds: two requests and what the store takes. */
const REINITIALISE_LEASE_MS = 2 * HANDSHAKE_TIMEOUT_MS + 5_000
/** Time between two looks whether another replica is done with it, in milliseconds. */
const BUSY_INTERVAL_MS = 100
/** Largest answer to such a request, in bytes. */
const HANDSHAKE_MAX_BYTES = 4_194_304

/** Id of our own `initialize`. */
const INITIALIZE_ID = 'adapter-initialize'

const JSON_HEADERS = [
  'accept-encoding',
  'identity',
  'accept',
  'application/json, text/event-stream',
  'content-type',
  'application/json',
] as const

/** See the file comment. One per worker. */
export class Handshake {
  readonly #registry: SessionRegistry
  readonly #upstreamOf: (
    serverId: string,
  ) => { server: ServerConfig; upstream: Upstream } | undefined
  readonly #placement: { readonly index: number; readonly workers: number }
  readonly #log: Log
  readonly #replicaId: string

  constructor(options: {
    registry: SessionRegistry
    upstreamOf: (serverId: string) => { server: ServerConfig; upstream: Upstream } | undefined
    /** Sessions opened here must hash to this worker. */
    placement: { readonly index: number; readonly workers: number }
    log: Log
    /** Names this process among those that may initialise the same upstream session again. */
    replicaId: string
  }) {
    this.#registry = options.registry
    this.#upstreamOf = options.upstreamOf
    this.#placement = options.placement
    this.#log = options.log
    this.#replicaId = options.replicaId
  }

  /**
   * Stores a session for an upstream that answered `initialize`. When there is no room, the upstream session is ended again and
   * ADAPTER_SESSION_LIMIT is thrown.
   */
  async open(
    opening: Omit<SessionRecord, 'schemaVersion' | 'sessionId' | 'createdAtMs'>,
    received: HeaderList,
  ): Promise<Session> {
    const record: SessionRecord = {
      schemaVersion: 1,
      sessionId: this.#mint(),
      createdAtMs: Date.now(),
      ...opening,
    }
    try {
      const session = await this.#registry.open(record)
      session.hasListedTools = false
      this.#log.debug(
        { server: record.serverId, session: shortId(record.sessionId) },
        'session opened',
      )
      return session
    } catch (error) {
      void this.endUpstream(record, received)
      throw error
    }
  }

  /**
   * Initialises a lost upstream session again with the client's own parameters; callers at the same time share one attempt, and one that comes late
   * (`lostId` is not the session's present one any more) finds it done. False when the upstream refuses. Its state (pages, logins, working files) is
   * lost, which the client can't be told otherwise than by the results of its calls.
   */
  reinitialise(session: Session, received: HeaderList, lostId: string | null): Promise<boolean> {
    if (session.reinitialising !== undefined) return session.reinitialising
    if (session.record.upstreamSessionId !== lostId) return Promise.resolve(true)
    session.reinitialising = this.#reinitialiseOnce(session, received).finally(() => {
      session.reinitialising = undefined
    })
    return session.reinitialising
  }

  /** Ends a session here and at the upstream. */
  async close(session: Session, received: HeaderList): Promise<void> {
    await this.#registry.close(session)
    await this.endUpstream(session.record, received)
  }

  /** Ends the upstream's session; failure is of no consequence to anyone here, as upstreams expire what is not used. */
  async endUpstream(
    record: Pick<SessionRecord, 'serverId' | 'protocolVersion' | 'upstreamSessionId'>,
    received: HeaderList,
  ): Promise<void> {
    const target = this.#upstreamOf(record.serverId)
    if (target === undefined || record.upstreamSessionId === null) return
    try {
      await collectAnswer(
        target.upstream,
        {
          method: 'DELETE',
          headers: [
            ...upstreamHeaders(credentialsOf(received), target.server, record.upstreamSessionId),
            'mcp-protocol-version',
            record.protocolVersion,
          ],
          body: null,
          isSafe: true,
        },
        { timeoutMs: HANDSHAKE_TIMEOUT_MS, maxBytes: HANDSHAKE_MAX_BYTES },
      )
    } catch (error) {
      this.#log.debug({ server: record.serverId, err: error }, 'ending an upstream session failed')
    }
  }

  /** Posts a notification of our own to the upstream of a session, without waiting. */
  notifyUpstream(session: Session, message: JsonObject, received: HeaderList): void {
    const target = this.#upstreamOf(session.key.serverId)
    if (target === undefined) return
    this.#post(target, session.record, message, received).catch((error: unknown) => {
      this.#log.debug({ server: session.key.serverId, err: error }, 'notifying an upstream failed')
    })
  }

  /** Of all replicas that notice the loss one initialises; the others wait for what it makes of it. */
  async #reinitialiseOnce(session: Session, received: HeaderList): Promise<boolean> {
    const deadlineAtMs = performance.now() + REINITIALISE_LEASE_MS
    for (;;) {
      const claim = await this.#registry.claimReinitialisation(
        session,
        this.#replicaId,
        REINITIALISE_LEASE_MS,
      )
      switch (claim) {
        case 'session_gone':
          throw unknownSession()
        case 'done':
          await this.#registry.refresh(session)
          return true
        case 'claimed':
          try {
            return await this.#reinitialise(session, received)
          } finally {
            await this.#registry.endReinitialisation(session, this.#replicaId)
          }
        case 'busy':
          if (performance.now() > deadlineAtMs) {
            throw new AdapterError(
              'ADAPTER_UPSTREAM_UNREACHABLE',
              'another replica is initialising the upstream session again and does not finish',
            )
          }
          await delay(BUSY_INTERVAL_MS)
      }
    }
  }

  async #reinitialise(session: Session, received: HeaderList): Promise<boolean> {
    const target = this.#upstreamOf(session.key.serverId)
    if (target === undefined) throw unknownSession()
    const { record } = session
    const initializeParams = isAdopted(record) ? paramsFor(record) : record.initializeParams
    const headers = [
      ...upstreamHeaders(credentialsOf(received), target.server, null),
      ...JSON_HEADERS,
    ]
    const body = Buffer.from(
      JSON.stringify({
        jsonrpc: '2.0',
        id: INITIALIZE_ID,
        method: 'initialize',
        params: withRoots(target.server, initializeParams),
      }),
    )
    const reply = new ReplyReader()
    const answer = await collectAnswer(
      target.upstream,
      { method: 'POST', headers, body, isSafe: false },
      {
        timeoutMs: HANDSHAKE_TIMEOUT_MS,
        maxBytes: HANDSHAKE_MAX_BYTES,
        isEnough: (got, chunk) => isEventStream(got) && reply.read(chunk),
      },
    )
    if (answer.status >= 500 || answer.status === 429) {
      throw new AdapterError(
        'ADAPTER_UPSTREAM_UNREACHABLE',
        `the upstream server ended this session and answered ${answer.status} to a new initialize`,
      )
    }
    const message = isEventStream(answer.headers) ? reply.message : parsed(answer.body)
    if (answer.status !== 200 || !isObject(message) || !isObject(message['result'])) return false
    const upstreamSessionId = headerValue(answer.headers, 'mcp-session-id') ?? null
    const next: SessionRecord = { ...record, initializeParams, upstreamSessionId }
    let replaced = false
    try {
      const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
      // Before anyone can use it: half a handshake in the record would never be completed.
      await this.#post(target, next, initialized, received)
      replaced = await this.#registry.replaceUpstream(session, next, record.upstreamSessionId)
    } finally {
      if (!replaced) void this.endUpstream(next, received)
    }
    // Somebody was quicker after all, for example when our task had ended before we had: what they made is as good.
    if (!replaced) {
      const { record: present } = await this.#registry.refresh(session)
      return present.upstreamSessionId !== record.upstreamSessionId
    }
    session.hasNewUpstream = true
    this.#log.info(
      { server: record.serverId, session: shortId(record.sessionId) },
      'upstream session was lost and is initialised again',
    )
    return true
  }

  async #post(
    target: { server: ServerConfig; upstream: Upstream },
    record: SessionRecord,
    message: JsonObject,
    received: HeaderList,
  ): Promise<void> {
    await collectAnswer(
      target.upstream,
      {
        method: 'POST',
        headers: [
          ...upstreamHeaders(credentialsOf(received), target.server, record.upstreamSessionId),
          ...JSON_HEADERS,
          'mcp-protocol-version',
          record.protocolVersion,
        ],
        body: Buffer.from(JSON.stringify(message)),
        isSafe: false,
        // Notifications only.
        isFollowUp: true,
      },
      { timeoutMs: HANDSHAKE_TIMEOUT_MS, maxBytes: HANDSHAKE_MAX_BYTES },
    )
  }

  #mint(): SessionId {
    const { index, workers } = this.#placement
    // On average `workers` tries.
    for (;;) {
      const id = mintSessionId()
      if (ownerOf(id, workers) === index) return id
    }
  }
}

/** Looks for the answer to our `initialize` in an event stream, which need not end after it. */
class ReplyReader {
  readonly #splitter = new SseSplitter(HANDSHAKE_MAX_BYTES)
  message: JsonObject | undefined

  /** Whether it is there. */
  read(chunk: Uint8Array): boolean {
    for (const event of this.#splitter.push(chunk)) {
      const message = messageOf(event)
      if (message?.['id'] === INITIALIZE_ID && message['method'] === undefined)
        this.message = message
    }
    return this.message !== undefined
  }
}

function parsed(body: Uint8Array): unknown {
  try {
    return parseJson(body)
  } catch {
    return undefined
  }
}

/** The client's headers without those that describe its own message: what is left are the ones that the operator passes through. */
export function credentialsOf(received: HeaderList): string[] {
  const kept: string[] = []
  for (let i = 0; i + 1 < received.length; i += 2) {
    const name = received[i] ?? ''
    const describesMessage =
      name === 'accept' ||
      name.startsWith('content-') ||
      name.startsWith('mcp-') ||
      name === 'last-event-id'
    if (!describesMessage) kept.push(name, received[i + 1] ?? '')
  }
  return kept
}

/** An upstream that did not accept to be initialised again. */
export function lostUpstream(): AdapterError {
  return new AdapterError(
    'ADAPTER_SESSION_UNKNOWN',
    'the upstream server ended this session and does not open it again; initialize a new one',
  )
}

/** Whether a session was rebuilt from its files: then nothing is known of its client, and its upstream session is lost. */
export function isAdopted(record: SessionRecord): boolean {
  return record.upstreamSessionId === null && Object.keys(record.initializeParams).length === 0
}

/** What `initialize` is repeated with for a session whose client's own parameters are lost. It declares nothing that the client may not have. */
function paramsFor(record: SessionRecord): JsonObject {
  const clientInfo = { name: 'remote-mcp-adapter', version: '0' }
  return { protocolVersion: record.protocolVersion, capabilities: {}, clientInfo }
}
