/**
 * The upstreams' standalone streams that this worker holds, one a session: renews the leases, gives up what another replica has taken, and takes over
 * what a lost one has left.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import type { ServerConfig } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { ownerOf } from '../../shared/ids.ts'
import type { Log } from '../../shared/log.ts'
import { shortId } from '../../shared/redaction.ts'
import type { SessionKey, SessionRecord } from '../../shared/state/records.ts'
import type { StateStore, StreamLease } from '../../shared/state/store.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { HeldStream } from './held-stream.ts'
import type { RootAnswers } from './root-answers.ts'
import type { StreamClient } from './stream-client.ts'
import { Takeovers } from './takeovers.ts'

/** How often leases are renewed and abandoned ones looked for, in milliseconds. */
const TICK_MS = 1_000
/** A holder that can reach the store renews its leases within this time, in milliseconds. */
const RENEWAL_TIME_MS = 900
/** Longest wait of a request for the stream of its session, in milliseconds. */
const STANDING_TIMEOUT_MS = 5_000
/** Abandoned leases in one answer of the store. */
const MAX_FOUND = 1_024

/** What a holder works with. */
export interface StreamHolderOptions {
  readonly store: StateStore
  readonly replicaId: string
  /** Sessions that hash to this worker are its own. */
  readonly placement: { readonly index: number; readonly workers: number }
  readonly upstreamOf: (
    serverId: string,
  ) => { readonly server: ServerConfig; readonly upstream: Upstream } | undefined
  /** Largest event, in bytes. */
  readonly maxEventBytes: number
  /** Answers for upstreams that have the session's directory for their root; undefined where there are none. */
  readonly roots: RootAnswers | undefined
  /** Hears of every stream that was taken over from a holder that is lost, and how long that took. */
  readonly onTakenOver?: ((serverId: string, seconds: number) => void) | undefined
  readonly log: Log
}

/** See the file comment. One per worker. */
export class StreamHolder {
  readonly #options: StreamHolderOptions
  readonly #held = new Map<string, HeldStream>()
  /** Clients whose GETs went their own way. */
  readonly #alone = new Map<string, Set<StreamClient>>()
  /** Servers whose upstream answered 405: there is nothing to hold. */
  readonly #without = new Set<string>()
  readonly #known = new WeakSet<SessionRecord>()
  readonly #awaited = new WeakSet<SessionRecord>()
  /** Names this worker, for the store; those of all workers of a replica begin with the replica's. */
  readonly #holder: string
  /** Lost holders whose streams the store was not asked for yet. */
  #lost: readonly string[] = []
  readonly #offered = new Set<string>()
  /** Abandoned streams that the last look found, and since when they are. */
  #suspected: ReadonlyMap<string, { readonly epoch: number; readonly sinceMs: number }> = new Map()
  readonly #takeovers = new Takeovers((lease) => this.#takeOver(lease))
  #timer: NodeJS.Timeout | undefined
  #isRenewing = false
  #isLooking = false
  #isToLookAgain = false
  #handingOver: Promise<void> | undefined

  constructor(options: StreamHolderOptions) {
    this.#options = options
    // Ends with a mark, so that the name of worker 1 is not the beginning of that of worker 10.
    this.#holder = `${options.replicaId}.${options.placement.index}.`
    options.store.onInvalidate((key) => {
      const held = this.#held.get(nameOf(key))
      if (held !== undefined) {
        void this.#renew([held])
        held.lookForLeftovers()
      }
      if (this.#alone.has(nameOf(key))) void this.#closeOrphans(key)
    })
    options.store.onStreamOffered((key) => {
      if (!this.#isOwn(key)) return
      this.#offered.add(nameOf(key))
      void this.#look()
    })
  }

  /** Sessions whose streams are held here. */
  get size(): number {
    return this.#held.size
  }

  /** Begins to renew and to look. A worker that stands in for one that died takes its streams at once. */
  start(options: { readonly isReplacement: boolean }): void {
    this.#timer = setInterval(() => {
      void this.#renewAll()
      void this.#look()
    }, TICK_MS)
    this.#timer.unref()
    // The predecessor's leases are those of a replica that lives, so that nobody else takes them soon.
    if (options.isReplacement) this.replicasLost([this.#holder])
  }

  /** Replicas are gone: what they held is to be had. */
  replicasLost(ids: readonly string[]): void {
    this.#lost = [...this.#lost, ...ids]
    void this.#look()
  }

  /**
   * Opens the upstream's standalone stream for a client's GET, or goes on with the one that is held here. False when that GET is to go its own way: its
   * session has a client's stream here already, or the upstream has none to hold.
   */
  attach(client: StreamClient): boolean {
    const { record } = client
    if (record.upstreamSessionId === null || this.#without.has(record.serverId)) return false
    const known = this.#held.get(nameOf(record))
    if (known?.hasClient === true || this.#isStopping) return false
    const held = known ?? this.#create(record)
    held?.attach(client)
    return held !== undefined
  }

  /** The same for a client that names the last event that it had, when that was one of the stream held here: the client has lost what it had open. */
  resume(client: StreamClient, lastEventId: string): boolean {
    const held = this.#held.get(nameOf(client.record))
    if (held?.knows(lastEventId) !== true || this.#isStopping) return false
    held.attach(client)
    return true
  }

  /** This server's upstream has a standalone stream after all. */
  hasStream(serverId: string): void {
    this.#without.delete(serverId)
  }

  /** Ends a client's stream that goes its own way when its session is ended elsewhere. Until `detach`. */
  watch(client: StreamClient): void {
    const name = nameOf(client.record)
    const clients = this.#alone.get(name) ?? new Set()
    this.#alone.set(name, clients.add(client))
  }

  /** The client is gone. False when it was not served from here. */
  detach(client: StreamClient): boolean {
    const name = nameOf(client.record)
    const clients = this.#alone.get(name)
    clients?.delete(client)
    if (clients?.size === 0) this.#alone.delete(name)
    return this.#held.get(name)?.detach(client) ?? false
  }

  /** Sees to it that the stream of a session is held somewhere, for servers that are configured so. `received` is a request of the client's. */
  hold(record: SessionRecord, received: HeaderList): void {
    if (this.#known.has(record) || this.#isStopping) return
    this.#known.add(record)
    const { serverId, upstreamSessionId } = record
    const isHeld = this.#held.has(nameOf(record)) || this.#without.has(serverId)
    if (!isHeld && upstreamSessionId !== null) this.#create(record)?.hold(record, received)
  }

  /**
   * For upstreams that ask on it for what they need: resolves when the stream of a session stands, here or elsewhere, or is not to be had, or after a
   * while. Undefined when there is nothing to wait for. Holds it as `hold` does; with `isNew`, of an upstream session that has taken the place of another,
   * here in any case: whoever held the other's does not know yet.
   */
  untilStanding(
    record: SessionRecord,
    received: HeaderList,
    { isNew = false } = {},
  ): Promise<void> | undefined {
    const { serverId, upstreamSessionId } = record
    if (upstreamSessionId === null || this.#without.has(serverId)) return undefined
    if (this.#awaited.has(record) || this.#isStopping) return undefined
    const known = this.#held.get(nameOf(record))
    if (known?.isOpenFor(upstreamSessionId) === true) return undefined
    this.#known.add(record)
    const held = known ?? this.#create(record)
    if (known === undefined) held?.hold(record, received, isNew)
    else known.follow(record, received)
    return this.#untilOpen(record, held?.opened(upstreamSessionId))
  }

  /** Ends what is held for a session that is over. */
  end(key: SessionKey): void {
    this.#held.get(nameOf(key))?.drop()
  }

  /** Gives all streams to other replicas and closes the clients' ends, so that they connect elsewhere. Nothing is held from here on. */
  handOver(): Promise<void> {
    this.#handingOver ??= this.#handOver()
    return this.#handingOver
  }

  get #isStopping(): boolean {
    return this.#handingOver !== undefined
  }

  async #handOver(): Promise<void> {
    clearInterval(this.#timer)
    this.#takeovers.stop()
    await Promise.all([...this.#held.values()].map((held) => held.handOver()))
  }

  /** Each record is waited for once: what did not come in time is not waited for with every request. */
  async #untilOpen(record: SessionRecord, opened: Promise<void> | undefined): Promise<void> {
    const limit = new AbortController()
    const wait = sleep(STANDING_TIMEOUT_MS, undefined, { ref: false, signal: limit.signal })
    await Promise.race([opened, wait.catch(() => undefined)])
    limit.abort()
    this.#awaited.add(record)
  }

  #create(key: SessionKey): HeldStream | undefined {
    const { store, upstreamOf, maxEventBytes, roots, log } = this.#options
    const target = upstreamOf(key.serverId)
    if (target === undefined) return undefined
    const { serverId, sessionId } = key
    const name = nameOf(key)
    const held: HeldStream = new HeldStream({
      ...target,
      key: { serverId, sessionId },
      store,
      holder: this.#holder,
      maxEventBytes,
      roots,
      log,
      onAbsent: () => this.#without.add(serverId),
      onClosed: () => {
        if (this.#held.get(name) === held) this.#held.delete(name)
      },
    })
    this.#held.set(name, held)
    return held
  }

  async #closeOrphans(key: SessionKey): Promise<void> {
    try {
      if ((await this.#options.store.readSession(key)) !== undefined) return
    } catch {
      return
    }
    for (const client of this.#alone.get(nameOf(key)) ?? []) client.close()
  }

  async #renewAll(): Promise<void> {
    if (this.#isRenewing) return
    this.#isRenewing = true
    await this.#renew([...this.#held.values()])
    this.#isRenewing = false
  }

  /** Renews leases. A store that does not answer takes none away: nobody else can have them from it either. */
  async #renew(streams: readonly HeldStream[]): Promise<void> {
    const leases = streams.flatMap((held) =>
      held.lease.epoch === 0 || held.lease.isChanging
        ? []
        : [{ held, key: held.key, epoch: held.lease.epoch }],
    )
    if (leases.length === 0) return
    const asked = leases.map(({ key, epoch }) => ({ key, epoch }))
    let lost: ReadonlySet<string>
    try {
      const keys = await this.#options.store.renewStreams(this.#holder, asked)
      lost = new Set(keys.map((key) => nameOf(key)))
    } catch {
      return
    }
    for (const { held, key, epoch } of leases) {
      // What was asked of an epoch is no answer for the next one.
      if (lost.has(nameOf(key)) && !held.lease.isChanging) held.lost(epoch)
    }
  }

  /** Looks for abandoned streams of sessions that are this worker's, and again when there may be more. */
  async #look(): Promise<void> {
    this.#isToLookAgain = this.#isLooking
    if (this.#isLooking || this.#isStopping) return
    this.#isLooking = true
    const lost = this.#lost
    const offered = new Set(this.#offered)
    this.#offered.clear()
    try {
      const found = await this.#options.store.abandonedStreams(lost, MAX_FOUND)
      const mayBeMore = found.length === MAX_FOUND
      // Asked once: one that is there after all may have its streams again.
      if (!mayBeMore) this.#lost = this.#lost.filter((id) => !lost.includes(id))
      const free = found.filter(({ key }) => this.#isOwn(key) && !this.#held.has(nameOf(key)))
      const own = this.#ready(free, (name) => lost.length > 0 || offered.has(name))
      this.#takeovers.add(own, () => {
        if (mayBeMore && own.length > 0) void this.#look()
      })
    } catch {
      // The next look follows soon; until then nobody knows of anything to do.
      for (const name of offered) this.#offered.add(name)
    } finally {
      this.#isLooking = false
    }
    if (this.#isToLookAgain) await this.#look()
  }

  /**
   * Those to take now. A lease that has merely run out is left alone for a while: when the store itself was away, its holder is about to renew it.
   */
  #ready(
    found: readonly StreamLease[],
    isKnown: (name: string) => boolean,
  ): readonly StreamLease[] {
    const nowMs = performance.now()
    const suspected = new Map<string, { epoch: number; sinceMs: number }>()
    const ready = found.filter(({ key, epoch }) => {
      const name = nameOf(key)
      const before = this.#suspected.get(name)
      const sinceMs = before?.epoch === epoch ? before.sinceMs : nowMs
      suspected.set(name, { epoch, sinceMs })
      return isKnown(name) || nowMs - sinceMs > RENEWAL_TIME_MS
    })
    this.#suspected = suspected
    return ready
  }

  async #takeOver({ key, epoch }: StreamLease): Promise<void> {
    if (this.#isStopping || this.#held.has(nameOf(key))) return
    const { log, onTakenOver } = this.#options
    const held = this.#create(key)
    const ms = await held?.takeOver(epoch)
    if (held === undefined || ms === undefined) return
    onTakenOver?.(key.serverId, ms / 1_000)
    log.info(
      {
        server: key.serverId,
        session: shortId(key.sessionId),
        epoch: held.lease.epoch,
        ms: Math.round(ms),
      },
      'stream taken over',
    )
  }

  #isOwn(key: SessionKey): boolean {
    const { index, workers } = this.#options.placement
    return ownerOf(key.sessionId, workers) === index
  }
}

function nameOf(key: SessionKey): string {
  return `${key.serverId}\n${key.sessionId}`
}
