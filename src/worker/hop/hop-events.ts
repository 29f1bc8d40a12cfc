/** What the hop tells of itself, for metrics. */

/** Seen from here: a request of ours to a holder, or of another's to a connection here. */
export type HopDirection = 'out' | 'in'

/** See the file comment. Nothing may be thrown. */
export interface HopEvents {
  /** The answer has begun, so many seconds after the request was sent or came. */
  answered(direction: HopDirection, seconds: number): void
  /** How it went, once for each request; an answer that has begun is a success whatever comes of the rest. */
  ended(direction: HopDirection, result: 'success' | 'error' | 'holder_lost'): void
}
