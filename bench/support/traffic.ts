/** What a load generator is told and what it answers; both sides of its channel import this. */

/** Requests to make: the k-th uses the k-th session and body, in turn. */
export interface Traffic {
  readonly url: string
  /** Sent with each request. */
  readonly headers: Readonly<Record<string, string>>
  /** One `Mcp-Session-Id` each; empty for none. */
  readonly sessionIds: readonly string[]
  readonly bodies: readonly string[]
  readonly connections: number
  readonly seconds: number
}

/** An order to the generator process. */
export type Order =
  /** As fast as answers come, by autocannon; each connection keeps its session. */
  | { readonly kind: 'saturate'; readonly traffic: Traffic }
  /** At a steady rate, or (null) as fast as answers come; each request takes the next session. */
  | { readonly kind: 'pace'; readonly traffic: Traffic; readonly perSecond: number | null }
  /** Opens one GET stream a session and keeps them open until `release`. */
  | { readonly kind: 'hold'; readonly traffic: Omit<Traffic, 'bodies' | 'connections' | 'seconds'> }
  | { readonly kind: 'release' }

/** What came of `saturate` and `pace`; `hold` reports the streams that are open as `requests`. */
export interface Outcome {
  /** Answers with status 2xx. */
  readonly requests: number
  /** Answers with another status, broken connections and timeouts. */
  readonly failures: number
  readonly seconds: number
  readonly bytes: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** An answer to an order, by its number. */
export type Report =
  | { readonly order: number; readonly outcome: Outcome }
  | { readonly order: number; readonly error: string }
