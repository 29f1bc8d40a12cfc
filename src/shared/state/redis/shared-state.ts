/**
 * The store that replicas share, as one replica has it: connections, who else is there, whether it can be used, and what is done when it can't. Lives
 * in the state thread; everybody else reaches it through a port of its host.
 */
import { StoreUnavailableError } from '../../errors.ts'
import { StoreHost } from '../host.ts'
import type { RedisStateOptions } from '../state-options.ts'
import type { SharedStore, StoreMode, StoreRequest } from '../store-requests.ts'
import { ChangeFeed } from './change-feed.ts'
import { changeChannel, decodeChange } from './changes.ts'
import { openCommands, openSubscriber } from './connection.ts'
import type { RedisClient } from './connection.ts'
import type { RedisStoreOptions } from './context.ts'
import { HealthMonitor } from './health-monitor.ts'
import type { StoreHealth } from './health-monitor.ts'
import { RedisStore } from './redis-store.ts'
import { Recollection } from './recollection.ts'
import { ReplicaWatch } from './replica-watch.ts'
import { StandIn } from './stand-in.ts'

/** Time between two attempts to reach the store while the replica starts, in milliseconds. */
const START_RETRY_MS = 50
/** Pause before a connection that was given up for good is made again, in milliseconds. */
const CONNECT_AGAIN_MS = 250
/** Time between two reports when nothing changes, in milliseconds. */
const REPORT_INTERVAL_MS = 1_000

/** Time between two warnings that a stand-in serves, in milliseconds. */
const REMIND_INTERVAL_MS = 60_000
/** How long sessions are brought back into the shared store, in milliseconds; requests wait for that, within the limit of their callers. */
const HAND_BACK_MS = 5_000

/** What a replica says of its shared store. */
export interface SharedStateReport extends StoreHealth {
  readonly mode: StoreMode
  /** Replicas that are there, this one included. */
  readonly replicas: number
  /** Whether changes by other replicas are heard of. */
  readonly callsBack: boolean
}

/** Who hears of what. Texts hold no secrets. */
export interface SharedStateListeners {
  readonly onReport: (report: SharedStateReport) => void
  readonly onWarning: (message: string) => void
  readonly onFailure: (message: string) => void
  /** It can be reached again, after `onFailure`. */
  readonly onRecovered: () => void
}

/** The store, and who uses it. */
type SharedStateOptions = RedisStateOptions & {
  readonly replicaId: string
  /** Where other replicas reach this one; null, the default, where they need not. */
  readonly hopUrl?: string | null
}

/** See the file comment. */
export class SharedState implements SharedStore {
  readonly host: StoreHost
  readonly #options: SharedStateOptions
  readonly #listeners: SharedStateListeners
  readonly #client: RedisClient
  readonly #store: RedisStore
  readonly #feed: ChangeFeed
  readonly #watch: ReplicaWatch
  /** Only where a stand-in may need it. */
  readonly #recollection: Recollection | undefined
  #standIn: StandIn | undefined
  #remindTimer: NodeJS.Timeout | undefined
  /** Whether the shared store lost its data while the stand-in served. */
  #wasEmptied = false
  #monitor: HealthMonitor | undefined
  #mode: StoreMode = 'shared'
  #replicas: readonly string[] = []
  #hops: ReadonlyMap<string, string> = new Map()
  #mustClear: boolean
  #lastError = ''
  #reportTimer: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  /** Connects; `start` waits for that. `clock` is for tests. */
  constructor(
    options: SharedStateOptions,
    listeners: SharedStateListeners,
    clock: Pick<RedisStoreOptions, 'frozenClock' | 'clockOffset'> = {},
  ) {
    const { connection, keyBase, replicaId, policy } = options
    this.#options = options
    this.#listeners = listeners
    this.#mustClear = options.refreshOnStartup
    this.#replicas = [replicaId]
    this.#client = openCommands(connection, (error) => this.#noteError(error))
    this.#client.on('end', () => this.#connectAgain())
    this.#store = new RedisStore({
      client: this.#client,
      keyBase,
      policy,
      onWarning: listeners.onWarning,
      ...clock,
    })
    this.#recollection =
      options.unavailablePolicy === 'fallback_memory' ? new Recollection() : undefined
    this.#feed = new ChangeFeed({
      connect: (attempt) => openSubscriber(connection, attempt),
      changes: changeChannel(keyBase),
      beats: ReplicaWatch.channelOf(keyBase, replicaId),
      onMessage: (message) => this.#hear(message),
      onFlow: () => this.#tellTrust(),
      onError: (error) => this.#noteError(error),
    })
    this.#watch = new ReplicaWatch({
      client: this.#client,
      replicaId,
      keyBase,
      hopUrl: options.hopUrl ?? null,
      countsSubscribers: connection.target.kind !== 'cluster',
      subscription: () => (this.#feed.flows ? this.#feed.generation : null),
      onLost: (ids) => {
        listeners.onWarning(
          `replica ${ids.join(', ')} was lost: what it held is taken over by those that are left`,
        )
        this.host.tell({ kind: 'replicas_lost', ids })
      },
      onReplicas: (ids, hops) => {
        this.#replicas = ids
        this.#hops = hops
        if (this.#mode === 'shared') this.host.tell({ kind: 'replicas', ids, hops })
        this.#report()
      },
      onError: () => this.#monitor?.suspect(),
      onDataLost: () => this.#lostData(),
    })
    this.host = new StoreHost(this, replicaId)
    // Until the subscription is there.
    this.host.tell({ kind: 'untrusted', callsBack: false })
  }

  /** Resolves when the store is in use, or when it could not be reached for as long as is waited for one that goes away later. */
  async start(): Promise<void> {
    const { pingMs, unavailableAfterMs } = this.#options
    this.#feed.start()
    const isAvailable = await this.#reached(performance.now() + unavailableAfterMs)
    if (this.#closing !== undefined) return
    this.#monitor = new HealthMonitor(
      {
        probe: () => this.#probe(),
        intervalMs: pingMs,
        unavailableAfterMs,
        onChange: (available, reason) => this.#changed(available, reason),
        onTimeout: () => this.#dropStuckConnection(),
      },
      isAvailable,
    )
    this.#monitor.start()
    this.#watch.start()
    this.#reportTimer = setInterval(() => this.#report(), REPORT_INTERVAL_MS)
    if (!isAvailable) this.#changed(false, this.#lastError)
    this.#tellTrust()
    this.#report()
  }

  async perform(request: StoreRequest, origin: string): Promise<unknown> {
    if (this.#monitor?.isAvailable !== true) {
      throw new StoreUnavailableError('the shared state store can not be reached')
    }
    try {
      const value = await this.#store.perform(request, origin)
      this.#recollection?.note(request, value)
      return value
    } catch (error) {
      if (error instanceof StoreUnavailableError) this.#monitor.suspect()
      throw error
    }
  }

  /** Answers what was asked, then closes everything. Idempotent. */
  async stop(): Promise<void> {
    await this.host.close()
    await this.#standIn?.close()
    await this.close()
  }

  /** Closes the connections. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  async #finish(): Promise<void> {
    clearInterval(this.#reportTimer)
    clearInterval(this.#remindTimer)
    this.#monitor?.stop()
    // First: whoever sees the connection end must not take it for a crash.
    if (this.#monitor?.isAvailable === true) await this.#watch.stop().catch(ignore)
    else this.#watch.abandon()
    this.#feed.stop()
    this.#client.disconnect()
  }

  /** One that is only being made has time limits of its own. */
  #dropStuckConnection(): void {
    if (this.#client.status === 'ready') this.#client.disconnect(true)
  }

  /** The library gives up where it should not, for example when a Sentinel was asked at the moment of a disconnect. */
  #connectAgain(): void {
    if (this.#closing !== undefined) return
    setTimeout(() => {
      if (this.#closing === undefined) this.#client.connect().catch(ignore)
    }, CONNECT_AGAIN_MS)
  }

  async #reached(deadlineAtMs: number): Promise<boolean> {
    for (;;) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        await this.#probe()
        return true
      } catch (error) {
        if (performance.now() > deadlineAtMs || this.#closing !== undefined) {
          // What the connection said tells more than that there is none.
          if (this.#lastError === '') this.#noteError(toError(error))
          return false
        }
      }
      // oxlint-disable-next-line no-await-in-loop -- a pause between attempts
      await new Promise((resolve) => setTimeout(resolve, START_RETRY_MS))
    }
  }

  /** Uses the store as its users do: reads and writes where everything that spans sessions is. */
  async #probe(): Promise<void> {
    await this.#watch.beat()
    if (!this.#mustClear) return
    if (this.#replicas.length > 1) {
      this.#mustClear = false
      this.#listeners.onWarning(
        'state_persistence.refresh_on_startup was not obeyed: other replicas are using the state',
      )
      return
    }
    await this.#store.perform(['clear', []], '')
    this.#mustClear = false
  }

  #changed(isAvailable: boolean, reason: string): void {
    if (isAvailable) {
      this.#lastError = ''
      this.#listeners.onRecovered()
      if (this.#mode === 'memory') {
        this.#handBack().catch((error: unknown) => {
          this.#listeners.onFailure(
            `fallback_memory: coming back failed: ${toError(error).message}`,
          )
        })
      }
    } else {
      const why = this.#lastError === '' ? reason : this.#lastError
      this.#listeners.onFailure(`the shared state store can not be reached: ${why}`)
      if (this.#mode === 'shared' && this.#recollection !== undefined) {
        this.#standInFor(this.#recollection)
      }
    }
    this.#tellTrust()
    this.#report()
  }

  #standInFor(recollection: Recollection): void {
    const standIn = new StandIn(this.#options.fallback, recollection)
    this.#standIn = standIn
    this.#mode = 'memory'
    this.#wasEmptied = false
    this.host.serve(standIn)
    this.host.tell({ kind: 'mode', mode: 'memory' })
    this.host.tell({ kind: 'replicas', ids: [], hops: new Map() })
    // Everything that happens to the stand-in is called out.
    this.host.tell({ kind: 'untrusted', callsBack: true })
    this.#listeners.onFailure(
      `fallback_memory: state is in the memory of this process, beginning with ${standIn.adopted} sessions; other replicas don't see it, and it is lost with the process`,
    )
    this.#remindTimer = setInterval(() => {
      this.#listeners.onWarning(
        'fallback_memory: state is still in the memory of this process and not shared',
      )
    }, REMIND_INTERVAL_MS)
  }

  /** Requests wait while what changed is brought into the shared store, so that nothing changes meanwhile. */
  async #handBack(): Promise<void> {
    const standIn = this.#standIn
    if (standIn === undefined) return
    this.#standIn = undefined
    clearInterval(this.#remindTimer)
    const deadlineAtMs = performance.now() + HAND_BACK_MS
    const done = standIn.handBack((request) => this.#store.perform(request, ''), {
      wasEmptied: this.#wasEmptied,
      deadlineAtMs,
    })
    this.host.serve({
      perform: async (request, origin) => {
        await done
        return this.perform(request, origin)
      },
      close: async () => {
        await done
      },
    })
    const { kept, lost } = await done
    await standIn.close()
    if (this.#closing !== undefined) return
    this.#mode = 'shared'
    this.host.serve(this)
    this.host.tell({ kind: 'mode', mode: 'shared' })
    this.host.tell({ kind: 'replicas', ids: this.#replicas, hops: this.#hops })
    this.#tellTrust()
    this.#listeners.onWarning(
      `fallback_memory: state is shared again; ${kept} sessions were brought back, ${lost} were lost`,
    )
    // It may have gone away again while this went on.
    if (this.#monitor?.isAvailable === false && this.#recollection !== undefined) {
      this.#standInFor(this.#recollection)
    }
    this.#report()
  }

  #hear(message: string): void {
    const change = decodeChange(message)
    if (change === undefined || this.#mode === 'memory') return
    const { origin, key } = change
    const isOwn = origin.startsWith(`${this.#options.replicaId}:`)
    switch (change.kind) {
      case 'invalidate':
        if (!isOwn) this.#recollection?.forgetRecord(key)
        this.host.tell({ kind: 'invalidate', keys: [key] }, origin)
        return
      case 'announced':
        this.host.tell({ kind: 'announced', key, message: change.message }, origin)
        return
      case 'offered':
        // Whoever offers a stream speaks for its whole replica.
        if (!isOwn) this.host.tell({ kind: 'offered', keys: [key] })
    }
  }

  #tellTrust(): void {
    if (this.#mode === 'memory') return
    const callsBack = this.#feed.flows && this.#monitor?.isAvailable === true
    this.host.tell({ kind: 'untrusted', callsBack })
    this.#report()
  }

  #lostData(): void {
    this.#wasEmptied = true
    this.#listeners.onFailure('the shared state store was emptied: what it held is lost')
    this.#tellTrust()
  }

  #report(): void {
    if (this.#monitor === undefined || this.#closing !== undefined) return
    this.#listeners.onReport({
      ...this.#monitor.health,
      mode: this.#mode,
      replicas: this.#replicas.length,
      callsBack: this.#feed.flows,
    })
  }

  /** Keeps the last reason; what a connection says can't hold what was sent. */
  #noteError(error: Error): void {
    this.#lastError = error.message.split('\n')[0]?.slice(0, 200) ?? ''
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

function ignore(): void {}
