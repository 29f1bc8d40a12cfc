/**
 * The `redis` backend: every verb is one or a few Lua scripts. What belongs to a session is in one slot of a Cluster and changes atomically; limits
 * that span sessions are claimed first, where they are kept, see `room.ts` and `slots.ts`. Many requests may be under way at a time.
 */
import { StoreUnavailableError } from '../../errors.ts'
import type { SharedStore, StoreRequest, StoreValue, StoreVerb } from '../store-requests.ts'
import type { StateStore } from '../store.ts'
import {
  allocateArtifact,
  commitArtifact,
  dropArtifact,
  listArtifacts,
  readArtifact,
  touchPending,
} from './artifacts.ts'
import { takeRequests } from './buckets.ts'
import { enterCalls, keepAlive, leaveCalls } from './calls.ts'
import { noteDrift, pinCatalogue } from './catalogue.ts'
import { clear } from './clear.ts'
import { RedisContext } from './context.ts'
import type { RedisStoreOptions } from './context.ts'
import { electMaintainer, resignMaintainer } from './maintainer.ts'
import { claimReinitialisation, endReinitialisation } from './reinitialisation.ts'
import { repairCounters } from './repair.ts'
import {
  closeSession,
  openSession,
  readSession,
  replaceUpstreamSession,
  reviveSession,
  touchSessions,
} from './sessions.ts'
import {
  abandonedStreams,
  claimStream,
  keepEvents,
  releaseStream,
  renewStreams,
  takeEvents,
} from './streams.ts'
import { sweep } from './sweep.ts'
import { adopt, inventory, recoverAfterCrash, referencedItems } from './upkeep.ts'
import {
  commitUploads,
  isNonceUsed,
  releaseBytes,
  reserveBytes,
  resolveUploads,
} from './uploads.ts'

type Operation<V extends StoreVerb> = (
  ctx: RedisContext,
  ...args: Parameters<StateStore[V]>
) => Promise<StoreValue<V>>

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
  announce: (ctx, key, message) => ctx.announce(key, message),
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

/** Performs requests over one client, which belongs to the caller. */
export class RedisStore implements SharedStore {
  readonly #context: RedisContext
  readonly #underWay = new Set<Promise<unknown>>()
  #isClosed = false

  constructor(options: RedisStoreOptions) {
    this.#context = RedisContext.create(options)
  }

  /**
   * Performs one request; `origin` names who asks in what is published, so that it is not called back. Rejects with `StoreUnavailableError` when Redis
   * fails, and with what a mistake of the caller deserves.
   */
  async perform([verb, args]: StoreRequest, origin: string): Promise<unknown> {
    if (this.#isClosed) throw new StoreUnavailableError('the state store is closed')
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- OPERATIONS pairs each verb with its arguments, as StoreRequest does
    const run = OPERATIONS[verb] as (
      ctx: RedisContext,
      ...args: readonly unknown[]
    ) => Promise<unknown>
    const work = run(this.#context.of(origin), ...args)
    this.#underWay.add(work)
    try {
      return await work
    } finally {
      this.#underWay.delete(work)
    }
  }

  /** Refuses from now on; resolves when what was asked before has ended. Idempotent. Leaves the client open. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#underWay)
  }
}
