/** What the exchange needs of an upstream, whatever its transport: send one HTTP-shaped request, get its answer piece by piece. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'

/** A request as it goes upstream; headers are complete except for those that the transport owns. */
export interface UpstreamRequest {
  readonly method: 'POST' | 'GET' | 'DELETE'
  readonly headers: HeaderList
  /** A string holds ASCII only, and nothing but its bytes is sent. */
  readonly body: Uint8Array | string | null
  /** Whether it may be sent again when a reused connection broke before any byte of an answer came: only for requests that change nothing. */
  readonly isSafe: boolean
  /** A POST that belongs to what is under way (a response, a notification): it is sent also while new requests are refused. */
  readonly isFollowUp?: boolean
}

/** Receives the answer: `head` once, `data` any number of times, then `end` or `error` once. After `abort` nothing is called. */
export interface AnswerListener {
  /** `isOurs`: it was made on this side, and nothing was heard of the upstream yet. */
  head(status: number, headers: HeaderList, isOurs?: boolean): void
  /** `chunk` may be a view of a shared buffer: copy what is kept. */
  data(chunk: Uint8Array): void
  end(): void
  /** Before `head`: nothing came. After it: the answer is incomplete. */
  error(error: AdapterError): void
}

/** A request under way. */
export interface UpstreamCall {
  /** Whether anything of the request may have left; undefined where that is not known. */
  readonly hasLeft?: boolean
  /**
   * Cuts the connection. In revision 2026-07-28 that cancels the request; before it, the upstream goes on. `waitedMs`: because the upstream was silent for
   * so long, not because nobody wants the answer any more.
   */
  abort(waitedMs?: number): void
  /** Stops reading until `resume`; a bounded amount still arrives. */
  pause(): void
  resume(): void
}

/** One upstream server. */
export interface Upstream {
  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall
  /**
   * Finds out whether the upstream lives, in the cheapest way that makes nothing there; rejects with `AdapterError` when it does not, or not within
   * `timeoutMs`, connecting included. An upstream without it is never asked in the background: only requests tell.
   */
  probe?(timeoutMs: number): Promise<void>
  /**
   * The same of an upstream without `probe`, in a way that costs too much to be done all the time, and is bounded by how long a session of it may take to
   * open besides: only when requests say that it fails.
   */
  trial?(timeoutMs: number): Promise<void>
  /** Cuts everything that is under way and frees the connections. */
  close(): Promise<void>
}
