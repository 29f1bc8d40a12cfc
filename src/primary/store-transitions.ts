/** Counts when the shared store is lost and when it is back, and what the configuration has done then. */
import type { Config } from '../shared/config/config.ts'
import type { SharedStateReport } from '../shared/state/redis/shared-state.ts'
import { NOT_RECORDING } from '../shared/telemetry/recorder.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'

type Standing = 'available' | 'unavailable' | 'memory'

/** See the file comment. */
export class StoreTransitions {
  readonly #policy: Config['statePersistence']['unavailablePolicy']
  readonly #backend: Config['statePersistence']['type']
  #recorder: Recorder = NOT_RECORDING
  /** A replica starts with a store that is there. */
  #standing: Standing = 'available'

  constructor({ statePersistence }: Pick<Config, 'statePersistence'>) {
    this.#policy = statePersistence.unavailablePolicy
    this.#backend = statePersistence.type
  }

  /** Where it is counted from here on. */
  countInto(recorder: Recorder): void {
    this.#recorder = recorder
  }

  /** Takes what the state thread says, changed or not. */
  note({ isAvailable, mode }: Pick<SharedStateReport, 'isAvailable' | 'mode'>): void {
    const standing = mode === 'memory' ? 'memory' : isAvailable ? 'available' : 'unavailable'
    if (standing === this.#standing) return
    this.#standing = standing
    this.#recorder.add('adapter_persistence_policy_transitions_total', {
      server_id: 'global',
      action: this.#actionOf(standing),
      source: 'redis_persistence_health',
      policy: this.#policy,
      configured_backend: this.#backend,
    })
  }

  #actionOf(standing: Standing): 'recovered' | 'fallback_memory' | 'exit' | 'fail_closed' {
    if (standing === 'available') return 'recovered'
    if (standing === 'memory') return 'fallback_memory'
    return this.#policy === 'exit' ? 'exit' : 'fail_closed'
  }
}
