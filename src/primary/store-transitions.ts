/** Counts when the shared store is lost and when it is back, and what the configuration has done then. */
import type { Config } from '../shared/config/config.ts'
import type { SharedStateReport } from '../shared/state/redis/shared-state.ts'
import type { LabelOf } from '../shared/telemetry/catalogue.ts'
import { NOT_RECORDING } from '../shared/telemetry/recorder.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'

type Action = LabelOf<'adapter_persistence_policy_transitions_total', 'action'>
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
    if (this.#backend !== 'redis') return
    this.#count(this.#policy, 0)
    this.#count('recovered', 0)
  }

  /** Takes what the state thread says, changed or not. */
  note({ isAvailable, mode }: Pick<SharedStateReport, 'isAvailable' | 'mode'>): void {
    const standing = mode === 'memory' ? 'memory' : isAvailable ? 'available' : 'unavailable'
    if (standing === this.#standing) return
    this.#standing = standing
    this.#count(this.#actionOf(standing), 1)
  }

  #count(action: Action, amount: number): void {
    const labels = {
      server_id: 'global',
      action,
      source: 'redis_persistence_health',
      policy: this.#policy,
      configured_backend: this.#backend,
    } as const
    this.#recorder.add('adapter_persistence_policy_transitions_total', labels, amount)
  }

  #actionOf(standing: Standing): Action {
    if (standing === 'available') return 'recovered'
    if (standing === 'memory') return 'fallback_memory'
    return this.#policy === 'exit' ? 'exit' : 'fail_closed'
  }
}
