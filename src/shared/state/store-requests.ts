/** The store's methods as data, so that they can be batched and sent to another thread. */
import type { SessionKey } from './records.ts'
import type { StateStore } from './store.ts'

/** A method of the store that is one atomic operation. */
export type StoreVerb = Exclude<keyof StateStore, 'onInvalidate' | 'onStreamOffered' | 'close'>

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

/** A store that can perform many requests in one transaction, and so with one wait for the disk. */
export interface GroupStore extends StateStore {
  /** Performs the requests in order. One that fails leaves no trace and does not disturb the rest. Never throws. */
  performAll(requests: readonly StoreRequest[]): StoreBatch
}

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
  | { readonly kind: 'invalidate'; readonly keys: readonly SessionKey[] }

/** The answer to the request with this id. */
export type WireAnswer =
  | readonly [id: number, ok: true, value: unknown]
  | readonly [id: number, ok: false, failure: WireFailure]
