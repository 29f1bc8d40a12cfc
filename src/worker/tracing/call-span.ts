/** The span of one call, from the moment that its worker has read it to the last byte of its answer. */
import { performance } from 'node:perf_hooks'

import type { Attributes, AttributeValue, SpanEntry } from '../../shared/telemetry/records.ts'
import type { TraceParent } from '../../shared/telemetry/trace-context.ts'
import type { Failure } from './answer-outcome.ts'

/** What is known of a call when it begins. */
export interface CallSpanOptions {
  /** The span itself. */
  readonly place: TraceParent
  readonly parentSpanId: string | undefined
  readonly traceState: string | undefined
  readonly name: string
  readonly attributes: Attributes
  /** Takes the span when it is over. */
  readonly onEnd: (entry: SpanEntry) => void
}

/** See the file comment. Ends once; later ends are ignored. */
export class CallSpan {
  readonly #options: CallSpanOptions
  readonly #startMs = performance.now()
  readonly #attributes: Record<string, AttributeValue>
  #isOver = false

  constructor(options: CallSpanOptions) {
    this.#options = options
    this.#attributes = { ...options.attributes }
  }

  set(name: string, value: AttributeValue): void {
    this.#attributes[name] = value
  }

  end(failure: Failure | undefined): void {
    if (this.#isOver) return
    this.#isOver = true
    const { place, parentSpanId, traceState, name, onEnd } = this.#options
    if (failure !== undefined) {
      this.set('error.type', failure.type)
      if (failure.rpcCode !== undefined) this.set('rpc.response.status_code', failure.rpcCode)
    }
    onEnd({
      traceId: place.traceId,
      spanId: place.spanId,
      parentSpanId,
      traceState,
      name,
      startMs: performance.timeOrigin + this.#startMs,
      endMs: performance.timeOrigin + performance.now(),
      attributes: this.#attributes,
      isError: failure !== undefined,
    })
  }
}
