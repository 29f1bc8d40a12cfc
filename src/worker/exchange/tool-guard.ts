/**
 * Holds the tools of sessions to what they are pinned to (`tool_definition_pinning`), and calls to the tools that a client may see. What is pinned is in
 * the state store; here is a copy for each session in use, so that a call costs a look into a map.
 */
import type { ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Log } from '../../shared/log.ts'
import { shortId } from '../../shared/redaction.ts'
import type { StateStore } from '../../shared/state/store.ts'
import { driftOf, summaryOf } from '../catalogue/drift.ts'
import type { Drift, ToolDrift } from '../catalogue/drift.ts'
import type { Listing } from '../catalogue/shape.ts'
import { packPins, pinName, unpackPins } from '../catalogue/tool-pin.ts'
import type { ToolPins } from '../catalogue/tool-pin.ts'
import { unknownSession } from '../session/registry.ts'
import type { Session } from '../session/session.ts'

/** Sets of pins that are kept to be shared by sessions: most see the same tools. */
const MAX_SHARED = 16

/** What a guard works with. */
export interface ToolGuardOptions {
  readonly server: ServerConfig
  readonly store: StateStore
  readonly log: Log
  /** Whether a tool of this name is the upstream's and not disabled. */
  readonly isShown: (name: string) => boolean
  /** All tools of the session; rejects when the upstream does not list them. */
  readonly listAll: (session: Session, received: HeaderList) => Promise<Listing>
  /** Hears of every drift that is new. */
  readonly onDrift?: (() => void) | undefined
  /** Hears of every session that is ended because of one. */
  readonly onInvalidated?: (() => void) | undefined
  /** Ends a session, here and at the upstream. */
  readonly endSession: (session: Session, received: HeaderList) => Promise<void>
}

/** What is known of a session's tools. Good for as long as the session is the upstream's same one and nobody else noted another drift. */
interface View {
  readonly upstreamSessionId: string | null
  /** Null where tools are not pinned. */
  readonly pinned: ToolPins | null
  /** `drift` in one line; null while there is none. */
  mark: string | null
  drift: Map<string, ToolDrift>
  hidden: Set<string>
  /** Listings that agreed with what is pinned. */
  readonly agreed: WeakSet<Listing>
}

/** Which list it is. */
export interface ListPlace {
  readonly session: Session
  /** Headers of the request. */
  readonly received: HeaderList
  /** Whether the client asked for a later page. */
  readonly hasCursor: boolean
}

/** See the file comment. One per worker and server. */
export class ToolGuard {
  /** Whether lists are compared with what is pinned. */
  readonly pins: boolean
  /** Whether calls are looked at. */
  readonly blocks: boolean
  readonly #options: ToolGuardOptions
  readonly #views = new WeakMap<Session, View>()
  readonly #looking = new WeakMap<Session, Promise<View>>()
  readonly #shared = new Map<string, ToolPins>()

  constructor(options: ToolGuardOptions) {
    this.#options = options
    const { toolDefinitionPinning: pinning, toolMetadataSanitization: cleaning } = options.server
    this.pins = pinning.mode !== 'off'
    this.blocks = pinning.mode === 'block' || cleaning.mode === 'block'
  }

  /** Whether a list that is known already can be shown to a session as it is. Waits only the first time. */
  admits(listing: Listing, place: ListPlace): boolean | Promise<boolean> {
    const view = this.#viewOf(place.session)
    if (view?.agreed.has(listing) === true && view.drift.size === 0) return true
    return this.judge(listing, place).then((drift) => drift.size === 0)
  }

  /**
   * How a list differs from what is pinned, which is this list when it is the first and whole; before one page is judged the upstream is asked for all.
   * When it does not list them, a page passes where drift is only told.
   */
  async judge(listing: Listing, place: ListPlace): Promise<Drift> {
    const { session, received, hasCursor } = place
    const isWhole = !hasCursor && !listing.hasNext
    let view = this.#viewOf(session)
    try {
      view ??= isWhole
        ? await this.#open(session, listing)
        : await this.#lookOnce(session, received)
    } catch (error) {
      const isUpstream = error instanceof AdapterError && error.code.startsWith('ADAPTER_UPSTREAM_')
      const { server, log } = this.#options
      if (!isUpstream || server.toolDefinitionPinning.mode === 'block') throw error
      log.warn({ server: server.id, err: error }, 'tools can not be compared with what is pinned')
      return new Map()
    }
    return this.#compare(session, view, listing, isWhole)
  }

  /** Whether a call of this tool may be passed on; undefined when that is not known yet. */
  allows(session: Session, toolName: string): boolean | undefined {
    const view = this.#viewOf(session)
    return view && this.#problem(view, toolName) === undefined
  }

  /** Why a call must not be passed on; undefined when it may be. Ends the session where that is wanted. */
  async refusal(
    session: Session,
    received: HeaderList,
    toolName: string,
  ): Promise<AdapterError | 'unknown' | undefined> {
    const view = this.#viewOf(session) ?? (await this.#lookOnce(session, received))
    const problem = this.#problem(view, toolName)
    return problem === 'changed' ? this.changed(session, received, view.drift) : problem
  }

  /** The error for tools that are not what they were, after the session was ended where that is wanted. */
  async changed(session: Session, received: HeaderList, drift: Drift): Promise<AdapterError> {
    const { server, log, endSession } = this.#options
    const endsSession = server.toolDefinitionPinning.blockErrorSessionAction === 'invalidate'
    if (endsSession) {
      log.warn(
        { server: server.id, session: shortId(session.key.sessionId) },
        'session is ended because its tools changed',
      )
      await endSession(session, received)
      this.#options.onInvalidated?.()
    }
    return new AdapterError(
      'ADAPTER_TOOLS_CHANGED',
      `the upstream server changed tools since this session first listed them; ${
        endsSession ? 'the session is ended: initialize a new one' : 'they are refused'
      }`,
      { data: { drift: summaryOf(drift) } },
    )
  }

  #problem(view: View, toolName: string): 'changed' | 'unknown' | undefined {
    const name = pinName(toolName)
    const { toolDefinitionPinning: pinning } = this.#options.server
    if (view.hidden.has(name)) return 'unknown'
    if (pinning.mode !== 'block' || view.pinned === null) return undefined
    if (view.drift.has(name)) return pinning.blockStrategy === 'error' ? 'changed' : 'unknown'
    return view.pinned.has(name) ? undefined : 'unknown'
  }

  #viewOf(session: Session): View | undefined {
    const view = this.#views.get(session)
    if (view?.upstreamSessionId !== session.record.upstreamSessionId) return undefined
    return view.mark === session.drift ? view : undefined
  }

  /** Has the upstream list its tools; callers at the same time share one look. */
  #lookOnce(session: Session, received: HeaderList): Promise<View> {
    const underWay = this.#looking.get(session)
    if (underWay !== undefined) return underWay
    const look = this.#look(session, received).finally(() => this.#looking.delete(session))
    this.#looking.set(session, look)
    return look
  }

  async #look(session: Session, received: HeaderList): Promise<View> {
    const listing = await this.#options.listAll(session, received)
    const view = await this.#open(session, listing)
    await this.#compare(session, view, listing, true)
    return view
  }

  async #open(session: Session, listing: Listing): Promise<View> {
    const { upstreamSessionId } = session.record
    const pinned = this.pins ? await this.#pinned(session, listing.pins) : null
    const known = this.#viewOf(session)
    if (known !== undefined) return known
    const view = {
      upstreamSessionId,
      pinned,
      mark: null,
      drift: new Map<string, ToolDrift>(),
      hidden: new Set<string>(),
      agreed: new WeakSet<Listing>(),
    }
    this.#views.set(session, view)
    return view
  }

  async #pinned(session: Session, listed: ToolPins): Promise<ToolPins> {
    const text = await this.#options.store.pinCatalogue(session.key, packPins(listed))
    if (text === undefined) throw unknownSession()
    const shared = this.#shared.get(text)
    if (shared !== undefined) return shared
    const pins = unpackPins(text)
    if (pins === undefined) {
      throw new AdapterError(
        'ADAPTER_INTERNAL',
        'what the tools of this session are compared with was written by a newer version of this gateway',
      )
    }
    const [oldest] = this.#shared.keys()
    if (oldest !== undefined && this.#shared.size >= MAX_SHARED) this.#shared.delete(oldest)
    this.#shared.set(text, pins)
    return pins
  }

  async #compare(session: Session, view: View, listing: Listing, isWhole: boolean): Promise<Drift> {
    const { isShown } = this.#options
    const found =
      view.pinned === null
        ? new Map<string, ToolDrift>()
        : driftOf(view.pinned, listing.pins, { isWhole, isShown })
    if (isWhole) {
      view.drift = new Map(found)
      view.hidden = new Set(listing.hidden)
    } else {
      for (const name of listing.pins.keys()) {
        view.drift.delete(name)
        view.hidden.delete(name)
      }
      for (const [name, drift] of found) view.drift.set(name, drift)
      for (const name of listing.hidden) view.hidden.add(name)
    }
    if (found.size === 0) view.agreed.add(listing)
    await this.#note(session, view)
    return found
  }

  async #note(session: Session, view: View): Promise<void> {
    const mark = view.drift.size === 0 ? null : summaryOf(view.drift)
    view.mark = mark
    if (session.drift === mark) return
    const isNews = await this.#options.store.noteDrift(session.key, mark)
    session.drift = mark
    if (!isNews) return
    const { log, server } = this.#options
    const where = { server: server.id, session: shortId(session.key.sessionId) }
    if (mark === null) log.info(where, 'tools are again what this session first listed')
    else {
      this.#options.onDrift?.()
      const { mode, blockStrategy } = server.toolDefinitionPinning
      const details = mode === 'block' ? { ...where, mode, blockStrategy } : { ...where, mode }
      log.warn({ ...details, drift: mark }, 'tools changed since this session first listed them')
    }
  }
}
