/**
 * The upstream's standalone stream of one session, under a lease: relayed to the client when one is here, else read on its behalf. Steps that ask the
 * store run one after the other, so that an epoch never changes under one of them.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { shortId } from '../../shared/redaction.ts'
import type { SessionKey, SessionRecord } from '../../shared/state/records.ts'
import { toAdapterError } from '../exchange/adapter-error.ts'
import { unknownSession } from '../session/registry.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import { AloneClock } from './alone-clock.ts'
import { ClientFeed } from './client-feed.ts'
import { EventIds } from './event-ids.ts'
import type { HeldStreamOptions } from './held-stream-options.ts'
import { Lease } from './lease.ts'
import { answerRequest, ownGetPlan, type OnBehalf } from './own-requests.ts'
import type { StreamClient } from './stream-client.ts'
import { UnreadEvents } from './unread-events.ts'
import { isReadable, UpstreamGet } from './upstream-get.ts'
import type { GetListener, GetPlan } from './upstream-get.ts'

/** For how long a 409 is laid to the old GET of a stream that changed hands, in milliseconds. */
const PATIENCE_MS = 10_000
/** The same where nobody had the stream: an earlier GET of ours may have ended a moment ago. */
const SHORT_PATIENCE_MS = 1_000
/** Longest wait for the store while streams are handed over, in milliseconds. */
const HAND_OVER_TIMEOUT_MS = 1_000

/** See the file comment. */
export class HeldStream implements GetListener {
  readonly key: SessionKey
  readonly lease: Lease
  readonly #options: HeldStreamOptions
  readonly #unread: UnreadEvents
  readonly #clock = new AloneClock()
  readonly #ids = new EventIds()
  #record: SessionRecord | undefined
  #received: HeaderList = []
  #feed: ClientFeed | undefined
  #get: UpstreamGet | undefined
  /** Whom it was sent for. */
  #getFor: ClientFeed | undefined
  /** Set while the upstream's stream is open. */
  #head: { readonly headers: HeaderList; readonly openedAtMs: number } | undefined
  #isServing = false
  /** Until when a holder that was replaced may still bring what it had received, in milliseconds of `performance.now`. */
  #leftoversUntilMs = 0
  #steps: Promise<void> = Promise.resolve()
  #settle: () => void = () => {}
  /** Who waits for the stream to open, of which upstream session. */
  #waiting: { readonly upstreamSessionId: string; readonly resolve: () => void }[] = []
  #isClosed = false

  constructor(options: HeldStreamOptions) {
    const { store, key, holder, log } = options
    this.#options = options
    this.key = key
    this.lease = new Lease(store, key, holder, log)
    this.#unread = new UnreadEvents({
      store,
      key,
      lease: this.lease,
      log,
      answerPing: (id) => this.#answerPing(id),
      onLost: (epoch) => this.lost(epoch),
      schedule: (step) => this.#do(step),
      pace: { pause: () => this.#get?.pause(), resume: () => this.#get?.resume() },
    })
  }

  get hasClient(): boolean {
    return this.#feed !== undefined
  }

  /** Whether this stream carried an event with this id. */
  knows(eventId: string): boolean {
    return this.#ids.has(eventId)
  }

  /** Relays to this client from now on. One that is here already is sent away. */
  attach(client: StreamClient): void {
    const former = this.#withoutClient()
    const feed = (this.#feed = new ClientFeed(client))
    former?.close()
    this.#clock.stop()
    // Before the lease is claimed: what the client sends next must not overtake it, as upstreams ask on this stream for what they need for that. One
    // that still has the GET of another replica refuses this one for now.
    if (this.#get === undefined) this.#open(client.plan, null, feed)
    this.#do(() => this.#serve(feed))
  }

  /** The client is gone. False when this was not its stream any more. */
  detach(client: StreamClient): boolean {
    if (this.#isClosed || this.#feed?.client !== client) return false
    this.#withoutClient()
    // Else the step that claims for it sees that.
    if (!this.#isServing) this.#goOnAlone()
    return true
  }

  /** Takes an abandoned lease; resolves when the upstream has answered, with the milliseconds to its stream, or undefined when there is none. */
  async takeOver(epoch: number): Promise<number | undefined> {
    const startedAtMs = performance.now()
    await new Promise<void>((resolve) => {
      this.#settle = resolve
      this.#do(() => this.#claimAlone(epoch, PATIENCE_MS))
    })
    return this.#head === undefined ? undefined : performance.now() - startedAtMs
  }

  /** Opens the stream of a session without a client's GET: if nobody has had one, or, with `takes`, whoever has it. */
  hold(record: SessionRecord, received: HeaderList, takes = false): void {
    this.#record = record
    this.#received = received
    this.#do(() => this.#claimAlone(takes ? null : 0, takes ? PATIENCE_MS : SHORT_PATIENCE_MS))
  }

  /** Whether the stream of this upstream session is open. */
  isOpenFor(upstreamSessionId: string): boolean {
    return this.#head !== undefined && this.#record?.upstreamSessionId === upstreamSessionId
  }

  /** Goes on with another upstream session than that of the stream here, which has taken its place. */
  follow(record: SessionRecord, received: HeaderList): void {
    this.#do(() => {
      if (this.#record?.upstreamSessionId === record.upstreamSessionId) return
      // A client whose stream is not open yet gets the new one's by its own GET.
      if (this.#feed !== undefined && this.#head === undefined) return
      this.#stopGet()
      this.#withoutClient()?.close()
      this.#record = record
      this.#received = received
      this.#openAlone(SHORT_PATIENCE_MS)
      this.#goOnAlone()
    })
  }

  /** Resolves when the stream of this upstream session is open, or will not be. */
  opened(upstreamSessionId: string): Promise<void> {
    if (this.#isClosed || this.isOpenFor(upstreamSessionId)) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push({ upstreamSessionId, resolve }))
  }

  /** The lease of this epoch is lost. A store that has forgotten all leases gives it back; else the stream is somebody else's, or the session over. */
  lost(epoch: number): void {
    if (this.#isClosed || epoch !== this.lease.epoch) return
    this.#get?.pause()
    this.#do(async () => {
      if (epoch !== this.lease.epoch) return
      const claim = await this.lease.claim(0).catch(() => undefined)
      if (claim?.ok === true) {
        this.#get?.resume()
        return
      }
      // What was read for the client is here only. The successor's GET waits for the end of ours, and finds it.
      await this.#unread.keep().catch(() => undefined)
      this.drop()
    })
  }

  /** The one who held the stream before may have left something for the client. */
  lookForLeftovers(): void {
    const { epoch } = this.lease
    if (performance.now() > this.#leftoversUntilMs) return
    this.#do(async () => {
      const feed = this.#feed
      // A client whose stream has not begun gets them when it does.
      if (feed?.isLive !== true || epoch !== this.lease.epoch) return
      for (const message of await this.#unread.take()) feed.message(message)
    })
  }

  /** Offers the stream to the other replicas, then ends it here: the upstream takes no second one beside it. */
  async handOver(): Promise<void> {
    this.#clock.stop()
    this.lease.forgo('hand_over')
    this.#do(async () => {
      await this.#unread.keep().catch(() => undefined)
      await this.lease.release('hand_over')
    })
    // Without the store, the others find out by themselves.
    await Promise.race([this.#steps, sleep(HAND_OVER_TIMEOUT_MS, undefined, { ref: false })])
    this.drop()
  }

  /** Ends everything here: the lease is gone, or the session. */
  drop(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.lease.forgo('closed')
    this.#clock.stop()
    this.#unread.stop()
    this.#get?.abort()
    this.#withoutClient()?.close()
    this.#settle()
    this.#tellWaiting(() => true)
    this.#options.onClosed()
  }

  head(status: number, headers: HeaderList, call: UpstreamCall): void {
    const feed = this.#feed
    if (feed !== undefined) {
      this.#record = feed.client.record
      this.#received = feed.client.received
    }
    if (status === 200 && isReadable(headers)) {
      this.#head = { headers, openedAtMs: performance.now() }
      this.#ids.of(this.#record?.upstreamSessionId ?? null)
      this.#tellWaiting((id) => this.isOpenFor(id))
      if (feed !== undefined) this.#do(() => this.#begin(feed))
      this.#settle()
      return
    }
    if (status === 405) this.#options.onAbsent()
    if (feed === undefined) {
      call.abort()
      this.#refusedAlone(status)
      return
    }
    // There is nothing to hold: the answer is the client's.
    this.#get?.handTo(feed.client)
    this.#get = undefined
    this.#feed = undefined
    feed.client.head(status, headers, call)
    this.#giveUp()
  }

  data(event: Uint8Array): void {
    this.#ids.note(event)
    if (this.#feed === undefined) this.#unread.add(event)
    else this.#feed.event(event)
  }

  end(): void {
    this.#ended((client) => client.end())
  }

  error(error: AdapterError): void {
    this.#ended((client) => client.error(error))
  }

  /** Whether the stream is read without a client for as long as the session lives, and else for how long, in milliseconds. */
  get #alone(): { readonly holds: boolean; readonly lingerMs: number } {
    const { holdStream, streamLingerSeconds } = this.#options.server.upstream
    return { holds: holdStream, lingerMs: streamLingerSeconds * 1_000 }
  }

  async #serve(feed: ClientFeed): Promise<void> {
    const { client } = feed
    const before = this.lease.epoch
    let isOurs = true
    let patienceMs = 0
    this.#isServing = true
    try {
      const claim = await this.lease.claim(null)
      if (!claim.ok) throw unknownSession()
      isOurs = before !== 0 && claim.epoch === before + 1
      const isTaken = claim.previousHolder !== null || this.#getFor !== feed
      if (claim.previousHolder !== null) this.#leftoversUntilMs = performance.now() + PATIENCE_MS
      patienceMs = isTaken ? PATIENCE_MS : claim.epoch > 1 ? SHORT_PATIENCE_MS : 0
    } catch (error) {
      if (this.#feed === feed) {
        this.#withoutClient()
        client.error(toAdapterError(error))
      }
    }
    this.#isServing = false
    if (this.#isClosed) return
    if (this.#feed === undefined && this.lease.epoch === 0) {
      this.#giveUp()
      return
    }
    const isFresh = this.#getFor === feed
    // Somebody else had the stream in between.
    if (!isOurs && !isFresh) this.#stopGet()
    if (this.#feed === undefined) {
      if (this.#get === undefined && !this.#alone.holds) this.#giveUp()
      else this.#goOnAlone()
    }
    // Another client has its own step.
    if (this.#feed !== feed) return
    this.#received = client.received
    if (isFresh) {
      this.#get?.bePatientFor(patienceMs)
      return
    }
    const isSame = this.#record?.upstreamSessionId === client.record.upstreamSessionId
    if (this.#head !== undefined && isSame && !client.plan.resumes) {
      await this.#begin(feed)
      return
    }
    this.#stopGet()
    this.#open(client.plan, patienceMs, feed)
  }

  /** Gives the client what was kept for it, in order, and then what comes. */
  async #begin(feed: ClientFeed): Promise<void> {
    const get = this.#get
    if (get === undefined || this.#head === undefined) return
    if (this.#feed !== feed || feed.isLive) return
    const { headers } = this.#head
    get.pause()
    const unread = await this.#unread.take()
    if (this.#isClosed) return
    if (this.#feed !== feed || this.#get !== get) {
      this.#unread.putBack(unread)
      return
    }
    // An upstream that goes on after an event id sends them itself.
    const isReplayed = feed.client.plan.resumes && get.resumes
    feed.begin(headers, get, isReplayed ? [] : unread)
    get.resume()
  }

  /** For a stream that was abandoned, that nobody has had yet (epoch 0), or that is somebody else's (null). */
  async #claimAlone(epoch: number | null, patienceMs: number): Promise<void> {
    const claim = await this.lease.claim(epoch).catch(() => undefined)
    if (this.#isClosed) return
    if (claim?.ok !== true) {
      if (this.#feed === undefined) this.drop()
      return
    }
    const { holds, lingerMs } = this.#alone
    if (!holds && lingerMs === 0) {
      if (this.#feed === undefined) this.#giveUp()
      return
    }
    if (epoch !== 0 && !(await this.#readRecord())) return
    // A client has come: its own step follows, and knows more.
    if (this.#feed !== undefined || this.#isClosed) return
    this.#openAlone(patienceMs)
    this.#goOnAlone()
  }

  /** False when the session is gone, or not known to be there. */
  async #readRecord(): Promise<boolean> {
    const view = await this.#options.store.readSession(this.key).catch(() => undefined)
    if (view !== undefined) this.#record = view.record
    else if (this.#feed === undefined) this.#giveUp()
    return view !== undefined
  }

  /** Undefined while the session is not known. */
  get #onBehalf(): OnBehalf | undefined {
    const { server } = this.#options
    const record = this.#record
    return record && { server, record, received: this.#received }
  }

  #openAlone(patienceMs: number): void {
    const onBehalf = this.#onBehalf
    if (onBehalf === undefined) return
    this.#ids.of(onBehalf.record.upstreamSessionId)
    this.#open(ownGetPlan(onBehalf, this.#ids.last), patienceMs, undefined)
  }

  #open(plan: GetPlan, conflictPatienceMs: number | null, feed: ClientFeed | undefined): void {
    const { upstream, maxEventBytes, roots } = this.#options
    const waits = { conflictPatienceMs, maxEventBytes }
    const intercept = roots && ((event: Uint8Array) => roots.take(event, upstream, this.#onBehalf))
    this.#getFor = feed
    this.#get = new UpstreamGet({ upstream, plan, ...waits, listener: this, intercept })
    this.#get.send()
  }

  #goOnAlone(): void {
    const { holds, lingerMs } = this.#alone
    if (!holds && lingerMs === 0) {
      this.#giveUp()
      return
    }
    if (!holds) this.#clock.linger(lingerMs, () => this.#giveUp())
    if (this.#get === undefined) this.#reopenLater()
    else this.#get.resume()
  }

  #refusedAlone(status: number): void {
    this.#get = undefined
    // What the upstream can't do now may be otherwise later, and so may a session that its client has initialised again.
    const isForNow = status >= 500 || status === 429 || status === 409
    if (isForNow || (status === 404 && this.#alone.holds)) this.#reopenLater()
    else this.#giveUp()
    const { serverId: server, sessionId } = this.key
    const about = { server, session: shortId(sessionId), status }
    this.#options.log.debug(about, 'the upstream refused a stream')
    this.#settle()
  }

  #ended(tell: (client: StreamClient) => void): void {
    const feed = this.#feed
    // Between the upstream's head and ours, the client has nothing that could end.
    const isTold = feed?.isLive === true || this.#head === undefined
    if (this.#head !== undefined) this.#clock.wasOpen(performance.now() - this.#head.openedAtMs)
    this.#stopGet()
    const client = this.#withoutClient()
    if (client !== undefined && isTold) tell(client)
    else client?.close()
    if (client === undefined || this.#alone.holds) this.#reopenLater()
    else this.#giveUp()
    this.#settle()
  }

  #reopenLater(): void {
    this.#clock.reopen(() =>
      this.#do(async () => {
        if (this.#feed !== undefined || this.#get !== undefined) return
        if (await this.#readRecord()) this.#openAlone(PATIENCE_MS)
      }),
    )
  }

  /** Answers whose stream it was. What did not reach that client waits for the next one. */
  #withoutClient(): StreamClient | undefined {
    const feed = this.#feed
    this.#feed = undefined
    for (const event of feed?.leave() ?? []) this.#unread.add(event)
    return feed?.client
  }

  #tellWaiting(isSettled: (upstreamSessionId: string) => boolean): void {
    const waiting = this.#waiting
    this.#waiting = waiting.filter(({ upstreamSessionId }) => !isSettled(upstreamSessionId))
    for (const { upstreamSessionId, resolve } of waiting)
      if (isSettled(upstreamSessionId)) resolve()
  }

  #answerPing(id: unknown): void {
    const { upstream, server, log } = this.#options
    const onBehalf = this.#onBehalf
    if (onBehalf === undefined) return
    answerRequest(upstream, onBehalf, id).catch((error: unknown) => {
      log.debug({ server: server.id, err: error }, 'a ping could not be answered')
    })
  }

  #giveUp(): void {
    if (this.#isClosed) return
    void this.lease.release('closed')
    this.drop()
  }

  #stopGet(): void {
    this.#get?.abort()
    this.#get = undefined
    this.#head = undefined
  }

  #do(step: () => Promise<void> | void): void {
    this.#steps = this.#steps.then(async () => {
      if (this.#isClosed) return
      try {
        await step()
      } catch (error) {
        this.#options.log.error({ err: error }, 'a stream failed unexpectedly')
        this.#giveUp()
      }
    })
  }
}
