/** What the primary and the telemetry thread say to each other. */
import type { MetricsDelta } from './delta.ts'

/** Media type of Prometheus' text format, in the version that is written. */
export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** To the telemetry thread. */
export type TelemetryCommand =
  | { readonly kind: 'counted'; readonly source: string; readonly delta: MetricsDelta }
  /** The thread of that name has ended: its gauges are of nothing any more. */
  | { readonly kind: 'gone'; readonly source: string }
  /** Answer with all metrics as text. */
  | { readonly kind: 'scrape'; readonly id: number }
  /** Export what is known now. */
  | { readonly kind: 'export' }
  /** Export once more, unless `limitMs` is 0, within that time, and end. */
  | { readonly kind: 'finish'; readonly limitMs: number }

/** From the telemetry thread. `failed`: it could not start, and ends. */
export type TelemetryEvent =
  | { readonly kind: 'ready'; readonly scrapePort: number | null }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'scraped'; readonly id: number; readonly text: string }
  | {
      readonly kind: 'trouble'
      readonly message: string
      readonly details: Readonly<Record<string, unknown>>
    }

/** What a worker or the state thread sends to the primary besides its frames and events. */
export interface CountedMessage {
  readonly kind: 'counted'
  readonly delta: MetricsDelta
}
