/** The store's methods as data, so that they can be batched and sent to another thread. */
import type { JsonObject, SessionKey } from './records.ts'
import type { StateStore } from './store.ts'

/** A method of the store that is one atomic operation. */
export type StoreVerb = Exclude<
  keyof StateStore,
  'onInvalidate' | 'onStreamOffered' | 'onAnnounced' | 'close'
>

/** What a method answers when it does not fail. */
export type StoreValue<V extends StoreVerb> = Awaited<ReturnType<StateStore[V]>>

/** One call. */
export type StoreRequest = {
  [V in StoreVerb]: readonly [verb: V, args: Readonly<Parameters<StateStore[V]>>]
}[StoreVerb]

/** A call as a value. */
export function toRequest<V extends StoreVerb>(
  verb: V,
  args: Parameters<StateStore[V]>,
): StoreRequest {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- verb and args have the same V, which is what the union says
  return [verb, args] as unknown as StoreRequest
}

/** How one call ended. */
export type StoreAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: Error }

/** A session that a batch changed. */
export interface Invalidation {
  readonly key: SessionKey
  /** Index of the request whose sender knows; undefined when nobody does. */
  readonly by: number | undefined
}

/** Outcome of a batch: one answer a request, in order; all of it is stored. */
export interface StoreBatch {
  readonly answers: readonly StoreAnswer[]
  readonly invalidated: readonly Invalidation[]
}

/** Performs many requests in one transaction, and so with one wait for the disk. */
export interface BatchStore {
  /** Performs the requests in order. One that fails leaves no trace and does not disturb the rest. Never throws. */
  performAll(requests: readonly StoreRequest[]): StoreBatch
  close(): Promise<void>
}

/** A store that can also be asked for many things at once. */
export interface GroupStore extends StateStore, BatchStore {}

/** A store whose answers come later, one by one, and that other processes use at the same time. */
export interface SharedStore {
  /**
   * Performs one request on behalf of `origin`, who is not called back for what it changed itself. Rejects with `StoreUnavailableError` when the
   * store failed, and with another error for a mistake of the caller.
   */
  perform(request: StoreRequest, origin: string): Promise<unknown>
  close(): Promise<void>
}

/** Whether the store is shared with other replicas, or stands in for one that can't be reached and knows of this process only. */
export type StoreMode = 'shared' | 'memory'

/** Sent to a `StoreHost`: the calls of one turn of the caller's event loop. */
export type RequestMessage = readonly (readonly [id: number, request: StoreRequest])[]

/** A failure, as it crosses threads. `unavailable` is false when the caller asked for something impossible. */
interface WireFailure {
  readonly message: string
  readonly unavailable: boolean
}

/** Sent by a `StoreHost`. */
export type ReplyMessage =
  | { readonly kind: 'answers'; readonly answers: readonly WireAnswer[] }
  | StoreNews

/** What a `StoreHost` says without being asked. */
export type StoreNews =
  | { readonly kind: 'invalidate'; readonly keys: readonly SessionKey[] }
  | { readonly kind: 'offered'; readonly keys: readonly SessionKey[] }
  | { readonly kind: 'announced'; readonly key: SessionKey; readonly message: JsonObject }
  /** Invalidations were missed, or will be while `callsBack` is false: no copy is to be trusted. */
  | { readonly kind: 'untrusted'; readonly callsBack: boolean }
  | { readonly kind: 'mode'; readonly mode: StoreMode }
  /** The replicas that are there now, this one among them, and where they can be reached. */
  | {
      readonly kind: 'replicas'
      readonly ids: readonly string[]
      readonly hops: ReadonlyMap<string, string>
    }
  | { readonly kind: 'replicas_lost'; readonly ids: readonly string[] }

/** The answer to the request with this id. */
export type WireAnswer =
  | readonly [id: number, ok: true, value: unknown]
  | readonly [id: number, ok: false, failure: WireFailure]
