/** The state store on SQLite: one transaction for each batch of requests, one savepoint for each request. */
import { StoreUnavailableError } from '../errors.ts'
import {
  allocateArtifact,
  commitArtifact,
  dropArtifact,
  listArtifacts,
  readArtifact,
  touchPending,
} from './artifact-operations.ts'
import { noteDrift, pinCatalogue } from './catalogue-operations.ts'
import {
  abandonedStreams,
  announce,
  claimReinitialisation,
  claimStream,
  electMaintainer,
  endReinitialisation,
  enterCalls,
  keepEvents,
  leaveCalls,
  releaseStream,
  renewStreams,
  resignMaintainer,
  takeEvents,
} from './local-leases.ts'
import { takeRequests } from './local-buckets.ts'
import { LocalLeases } from './lease-table.ts'
import type { SessionKey } from './records.ts'
import { RequestStore } from './request-store.ts'
import {
  closeSession,
  openSession,
  readSession,
  replaceUpstreamSession,
  reviveSession,
  touchSessions,
} from './session-operations.ts'
import type { SqlDatabase } from './sql-database.ts'
import type { StoreContext } from './store-context.ts'
import { toRequest } from './store-requests.ts'
import type {
  GroupStore,
  Invalidation,
  StoreAnswer,
  StoreBatch,
  StoreRequest,
  StoreValue,
  StoreVerb,
} from './store-requests.ts'
import type { StateStore, StorePolicy } from './store.ts'
import { keepAlive, sweep } from './sweep-operation.ts'
import { UnwrittenUses } from './unwritten-uses.ts'
import {
  adopt,
  clear,
  inventory,
  recoverAfterCrash,
  referencedItems,
  repairCounters,
} from './upkeep-operations.ts'
import {
  commitUploads,
  isNonceUsed,
  releaseBytes,
  reserveBytes,
  resolveUploads,
} from './upload-operations.ts'

type Operation<V extends StoreVerb> = (
  ctx: StoreContext,
  ...args: Parameters<StateStore[V]>
) => StoreValue<V>

const OPERATIONS: { readonly [V in StoreVerb]: Operation<V> } = {
  openSession,
  readSession,
  reviveSession,
  touchSessions,
  replaceUpstreamSession,
  claimReinitialisation,
  endReinitialisation,
  pinCatalogue,
  noteDrift,
  closeSession,
  reserveBytes,
  releaseBytes,
  commitUploads,
  isNonceUsed,
  resolveUploads,
  allocateArtifact,
  touchPending,
  commitArtifact,
  dropArtifact,
  listArtifacts,
  readArtifact,
  enterCalls,
  leaveCalls,
  takeRequests,
  keepAlive,
  claimStream,
  renewStreams,
  releaseStream,
  abandonedStreams,
  keepEvents,
  takeEvents,
  announce,
  electMaintainer,
  resignMaintainer,
  sweep,
  repairCounters,
  referencedItems,
  adopt,
  recoverAfterCrash,
  clear,
  inventory,
}

/**
 * What a client was told must survive a power cut. Times of use, reservations and pending artifacts need not: the first are guesses anyway, the
 * others end with the process.
 */
const DURABLE: ReadonlySet<StoreVerb> = new Set<StoreVerb>([
  'openSession',
  'reviveSession',
  'replaceUpstreamSession',
  'pinCatalogue',
  'closeSession',
  'commitUploads',
  'commitArtifact',
  'dropArtifact',
  'sweep',
  'adopt',
  'recoverAfterCrash',
  'clear',
])

/** Verbs that change the tables by one statement at most, uses aside, which is all of it or nothing by itself: the two of a savepoint are saved. */
const ONE_STATEMENT: ReadonlySet<StoreVerb> = new Set<StoreVerb>([
  'readSession',
  'touchSessions',
  'resolveUploads',
  'isNonceUsed',
  'releaseBytes',
  'allocateArtifact',
  'touchPending',
  'dropArtifact',
  'readArtifact',
  'enterCalls',
  'leaveCalls',
  'takeRequests',
])

/** How long uses stay unwritten, in milliseconds. */
const WRITE_USES_MS = 1_000

/** What a `SqlStore` needs to know besides its database. */
export interface SqlStoreOptions {
  readonly policy: StorePolicy
  /** Unix milliseconds. */
  readonly clock: () => number
  /** Hears what an operator should know. */
  readonly onWarning: (message: string) => void
  /** Leases that there are already; none when absent. */
  readonly leases?: LocalLeases | undefined
  /** Closes the database and what was opened with it; called once. */
  readonly close: () => void
}

/** The `memory` and `disk` backends: which of the two is decided by where the database is. */
export class SqlStore extends RequestStore implements GroupStore {
  readonly #db: SqlDatabase
  readonly #options: SqlStoreOptions
  readonly #context: StoreContext
  readonly #listeners: ((key: SessionKey) => void)[] = []
  #invalidated: Invalidation[] = []
  #current = 0
  #usesTimer: NodeJS.Timeout | undefined
  #closed = false

  constructor(db: SqlDatabase, options: SqlStoreOptions) {
    super()
    this.#db = db
    this.#options = options
    this.#context = {
      db,
      policy: options.policy,
      leases: options.leases ?? new LocalLeases(),
      uses: new UnwrittenUses(),
      now: () => Math.floor(options.clock()),
      invalidate: (key, audience) => {
        const by = audience === 'others' ? this.#current : undefined
        this.#invalidated.push({ key: { serverId: key.serverId, sessionId: key.sessionId }, by })
      },
      warn: options.onWarning,
    }
  }

  performAll(requests: readonly StoreRequest[]): StoreBatch {
    this.#invalidated = []
    try {
      if (this.#closed) throw new StoreUnavailableError('the state store is closed')
      const durable = requests.some(([verb]) => DURABLE.has(verb))
      const answers = this.#db.transaction(durable, () => {
        if (this.#context.uses.isFull) this.#context.uses.write(this.#db)
        return requests.map((request, index) => this.#isolated(request, index))
      })
      this.#writeUsesSoon()
      const invalidated = this.#invalidated
      this.#notify(invalidated)
      return { answers, invalidated }
    } catch (error) {
      const failure = { ok: false, error: toStoreError(error) } as const
      return { answers: requests.map(() => failure), invalidated: [] }
    }
  }

  /** Here "someone else" can only be a sweep or the need for a slot: the store has no other user than the caller. */
  override onInvalidate(listener: (key: SessionKey) => void): void {
    this.#listeners.push(listener)
  }

  /** Nobody else is there to hand a stream over. */
  override onStreamOffered(): void {}

  /** Nor to pass notifications on to. */
  override onAnnounced(): void {}

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#usesTimer)
    this.#writeUses()
    this.#options.close()
  }

  protected override async perform<V extends StoreVerb>(
    verb: V,
    args: Parameters<StateStore[V]>,
  ): Promise<StoreValue<V>> {
    const [answer] = this.performAll([toRequest(verb, args)]).answers
    if (answer?.ok !== true) throw answer?.error ?? new StoreUnavailableError('no answer')
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- OPERATIONS pairs each verb with its value
    return answer.value as StoreValue<V>
  }

  #isolated([verb, args]: StoreRequest, index: number): StoreAnswer {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- OPERATIONS pairs each verb with its arguments, as StoreRequest does
    const run = OPERATIONS[verb] as (ctx: StoreContext, ...args: readonly unknown[]) => unknown
    const mark = this.#invalidated.length
    this.#current = index
    try {
      const perform = (): unknown => run(this.#context, ...args)
      return {
        ok: true,
        value: ONE_STATEMENT.has(verb) ? perform() : this.#db.savepoint(perform),
      }
    } catch (error) {
      // Without its transaction nothing of this batch is stored: all of it failed.
      if (!this.#db.inTransaction) throw error
      this.#invalidated.length = mark
      return { ok: false, error: toStoreError(error) }
    }
  }

  #writeUsesSoon(): void {
    if (this.#context.uses.isEmpty) return
    this.#usesTimer ??= setTimeout(() => {
      this.#usesTimer = undefined
      this.#writeUses()
    }, WRITE_USES_MS).unref()
  }

  #writeUses(): void {
    const { uses } = this.#context
    if (uses.isEmpty) return
    try {
      this.#db.transaction(false, () => uses.write(this.#db))
    } catch (error) {
      this.#context.warn(
        `when sessions and files were last used could not be written: ${String(error)}`,
      )
    }
  }

  #notify(invalidated: readonly Invalidation[]): void {
    for (const { key, by } of invalidated) {
      if (by === undefined) for (const listener of this.#listeners) listener(key)
    }
  }
}

/** What SQLite says becomes "unavailable"; a caller's mistake stays what it is. */
function toStoreError(error: unknown): Error {
  if (error instanceof Error && error.name !== 'SqliteError') return error
  return new StoreUnavailableError(`the state store failed: ${String(error)}`, { cause: error })
}
