/**
 * Listings of an upstream that are shown again: the cache of `core.upstream_metadata_cache_ttl_seconds`. Answers are kept as the upstream gave them, so what
 * adapters, sanitization and pinning do to lists is done each time. Who shares is decided so that nobody can be shown what is another's
 * (`upstream.metadata_cache_scope`), and whatever hints at a change drops what is kept. Each worker has its own: one more fetch for each worker in the time
 * that a listing lives costs an upstream less than questions to the store, in between, would cost the adapter.
 */
import { createHash } from 'node:crypto'

import type { Config, ServerConfig } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { Session } from '../session/session.ts'
import type {
  AnswerListener,
  Upstream,
  UpstreamCall,
  UpstreamRequest,
} from '../upstream/upstream.ts'
import type { Envelope, RequestId } from './json-rpc.ts'
import { isObject } from './json-rpc.ts'
import { ListingCache } from './listing-cache.ts'
import { ListingFetch } from './listing-fetch.ts'
import { answerSoon } from './listing-waiter.ts'
import { WatchedAnswer } from './watched-answer.ts'
import type { ListWatcher } from './watched-answer.ts'

const LISTS: ReadonlySet<string> = new Set([
  'tools/list',
  'resources/list',
  'resources/templates/list',
  'prompts/list',
])
const MEMBERS: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'method', 'params'])

/** They say something about the message or how it travels, and nothing of who asks. */
const OF_THE_MESSAGE: ReadonlySet<string> = new Set([
  'accept',
  'content-type',
  'content-encoding',
  'content-length',
  'host',
  'last-event-id',
  'mcp-session-id',
  'traceparent',
  'tracestate',
  'baggage',
])
/** The same, in `params._meta`: nothing is reported of what is at hand. */
const META_OF_THE_MESSAGE: ReadonlySet<string> = new Set([
  'progressToken',
  'traceparent',
  'tracestate',
  'baggage',
])

const SHARED = 'shared\n'
const OWN = 'own\n'

/** A message that may be answered from memory. */
interface Question {
  readonly session: Session
  readonly id: RequestId
  readonly method: string
  /** Headers of the client's request. */
  readonly received: HeaderList
  /** Whether the upstream is to be asked whatever is known. */
  readonly mustAsk: boolean
}

/** See the file comment. One per worker and server. */
export class Listings implements ListWatcher {
  /** How requests for listings were answered, and how often something that was kept was dropped because it may have changed. For metrics. */
  readonly counts = { hits: 0, joined: 0, misses: 0, drops: 0 }
  readonly #cache: ListingCache
  readonly #scope: ServerConfig['upstream']['metadataCacheScope']
  /** Whether other replicas may have requests of the same session. */
  readonly #isStateShared: boolean
  readonly #fetches = new Map<string, { readonly fetch: ListingFetch; readonly scope: string }>()
  /** JSON of what clients said of themselves, once for each session. */
  readonly #clients = new WeakMap<JsonObject, string>()

  /** Undefined where nothing is to be kept. */
  static of(server: ServerConfig, config: Config): Listings | undefined {
    const seconds = config.core.upstreamMetadataCacheTtlSeconds
    const { metadataCacheScope: scope } = server.upstream
    if (seconds === 0 || scope === 'off') return undefined
    const isStateShared = config.statePersistence.type === 'redis'
    return new Listings(new ListingCache(seconds * 1_000), scope, isStateShared)
  }

  constructor(
    cache: ListingCache,
    scope: ServerConfig['upstream']['metadataCacheScope'],
    isStateShared: boolean,
  ) {
    this.#cache = cache
    this.#scope = scope
    this.#isStateShared = isStateShared
  }

  /** The same upstream, every answer of which is looked at for hints that lists have changed. */
  watch(upstream: Upstream): Upstream {
    return {
      call: (request, listener) => {
        const sessionId = headerValue(request.headers, 'mcp-session-id')
        if (request.method === 'DELETE' && sessionId !== undefined)
          this.#cache.drop(OWN + sessionId)
        return upstream.call(request, new WatchedAnswer(listener, this, sessionId))
      },
      close: () => upstream.close(),
    }
  }

  /** Where a request for a listing is to be sent, in place of the upstream; undefined when it is none, or nothing of it can be kept. */
  through(
    upstream: Pick<Upstream, 'call'>,
    envelope: Envelope,
    place: {
      readonly session: Session
      readonly received: HeaderList
      /** See `Question`; asked for lists of tools only. */
      readonly mustAskForTools: () => boolean
    },
  ): Pick<Upstream, 'call'> | undefined {
    const [message] = envelope.messages
    if (message?.kind !== 'request' || envelope.isBatch || !LISTS.has(message.method))
      return undefined
    const params = message.params ?? {}
    if (!isPlain(message.value, params)) return undefined
    const { id, method } = message
    const mustAsk = method === 'tools/list' && place.mustAskForTools()
    const question = { ...place, id, method, mustAsk }
    return { call: (request, listener) => this.#call(upstream, question, request, listener) }
  }

  get isIdle(): boolean {
    return this.#cache.isEmpty && this.#fetches.size === 0
  }

  /** An upstream that tells one session of a change has probably changed its lists for the others too. */
  changed(sessionId: string | undefined): void {
    const had = [
      sessionId !== undefined && this.#cache.drop(OWN + sessionId),
      this.#cache.dropAll(SHARED),
    ]
    this.#detach(
      (scope) => scope.startsWith(SHARED) || (sessionId !== undefined && scope === OWN + sessionId),
    )
    if (had.includes(true)) this.counts.drops++
  }

  /** It may be another one when it comes back. */
  lost(): void {
    if (this.#cache.dropAll('')) this.counts.drops++
    this.#detach(() => true)
  }

  #call(
    upstream: Pick<Upstream, 'call'>,
    question: Question,
    request: UpstreamRequest,
    listener: AnswerListener,
  ): UpstreamCall {
    const scope = this.#scopeOf(question.session)
    if (scope === undefined) return upstream.call(request, listener)
    const { id, mustAsk } = question
    const key = this.#keyOf(scope, question)
    const known = this.#cache.find(key)
    if (known !== undefined && !mustAsk) {
      this.counts.hits++
      return answerSoon(known, id, listener)
    }
    const underWay = this.#fetches.get(key)
    if (underWay !== undefined && !mustAsk) {
      this.counts.joined++
      return underWay.fetch.join(id, listener, () => upstream.call(request, listener))
    }
    this.counts.misses++
    const fetch: ListingFetch = new ListingFetch({
      upstream,
      request,
      id,
      listener,
      before: known,
      onListing: (around) => {
        // One that is not among them any more may be from before a change.
        if (this.#fetches.get(key)?.fetch === fetch) this.#cache.keep(scope, key, around)
      },
      onSettled: () => {
        if (this.#fetches.get(key)?.fetch === fetch) this.#fetches.delete(key)
      },
    })
    this.#fetches.set(key, { fetch, scope })
    return fetch.start()
  }

  /** Undefined where a change might be told of where this worker does not hear it. */
  #scopeOf({ principal, record }: Session): string | undefined {
    const { upstreamSessionId } = record
    if (this.#scope === 'principal' || upstreamSessionId === null) return SHARED + principal
    return this.#isStateShared ? undefined : OWN + upstreamSessionId
  }

  /** Everything that an answer may depend on; hashed, as it holds credentials. */
  #keyOf(scope: string, { session, method, received }: Question): string {
    const { record } = session
    const asked: string[] = [
      scope,
      method,
      record.protocolVersion,
      this.#clientOf(record.initializeParams),
    ]
    for (let i = 0; i + 1 < received.length; i += 2) {
      const name = received[i] ?? ''
      if (!OF_THE_MESSAGE.has(name)) asked.push(name, received[i + 1] ?? '')
    }
    return createHash('sha256').update(JSON.stringify(asked)).digest('base64')
  }

  #clientOf(initializeParams: JsonObject): string {
    const known = this.#clients.get(initializeParams)
    if (known !== undefined) return known
    const text = JSON.stringify(initializeParams)
    this.#clients.set(initializeParams, text)
    return text
  }

  /** What is under way may be from before: nobody joins it any more, and it is not kept. */
  #detach(isMeant: (scope: string) => boolean): void {
    for (const [key, { scope }] of this.#fetches) if (isMeant(scope)) this.#fetches.delete(key)
  }
}

/** Whether it asks for a whole list, and for nothing else. */
function isPlain(value: JsonObject, params: JsonObject): boolean {
  if (!Object.keys(value).every((name) => MEMBERS.has(name))) return false
  const { _meta: meta = {}, ...others } = params
  if (Object.keys(others).length > 0 || !isObject(meta)) return false
  return Object.keys(meta).every((name) => META_OF_THE_MESSAGE.has(name))
}
