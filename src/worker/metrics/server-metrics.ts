/** Counts what concerns one server in a worker besides its calls: look-ups in caches, and tools that changed. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { LabelOf } from '../../shared/telemetry/catalogue.ts'
import type { CounterCell, Recorder } from '../../shared/telemetry/recorder.ts'

type Cache = LabelOf<'adapter_cache_requests_total', 'cache'>
type DriftOutcome = LabelOf<'adapter_tool_definition_drift_total', 'outcome'>

/** See the file comment. One per worker and server. */
export class ServerMetrics {
  readonly #server: ServerConfig
  readonly #recorder: Recorder
  readonly #sessionHits: CounterCell
  readonly #sessionMisses: CounterCell

  constructor(server: ServerConfig, recorder: Recorder) {
    this.#server = server
    this.#recorder = recorder
    this.#sessionHits = recorder.counter('adapter_cache_requests_total', {
      cache: 'session',
      result: 'hit',
    })
    this.#sessionMisses = recorder.counter('adapter_cache_requests_total', {
      cache: 'session',
      result: 'miss',
    })
  }

  /** A session was looked for among the copies in memory: once for nearly every request. */
  sessionLooked(isKnown: boolean): void {
    const cell = isKnown ? this.#sessionHits : this.#sessionMisses
    cell.add(1)
  }

  /** Something was looked for in another cache. */
  looked(cache: Exclude<Cache, 'session'>, isKnown: boolean): void {
    const result = isKnown ? 'hit' : 'miss'
    this.#recorder.add('adapter_cache_requests_total', { cache, result })
  }

  /** Tools of a session differ from what they were. */
  drifted(): void {
    const { mode, blockStrategy } = this.#server.toolDefinitionPinning
    if (mode === 'off') return
    this.#recorder.add('adapter_tool_definition_drift_total', {
      server_id: this.#server.id,
      mode,
      block_strategy: blockStrategy,
      outcome: this.#driftOutcome(),
    })
  }

  /** A session was ended because its tools changed. */
  invalidated(): void {
    this.#recorder.add('adapter_sessions_lifecycle_total', {
      server_id: this.#server.id,
      event: 'tool_definition_invalidated',
    })
  }

  #driftOutcome(): DriftOutcome {
    const { mode, blockStrategy, blockErrorSessionAction } = this.#server.toolDefinitionPinning
    if (mode !== 'block') return 'warn'
    if (blockStrategy === 'baseline_subset') return 'block_baseline_subset'
    return blockErrorSessionAction === 'invalidate'
      ? 'block_error_invalidate_session'
      : 'block_error'
  }
}
