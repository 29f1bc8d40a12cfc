/** Counts what the state store is asked and what came of it: how long it took, and what happened to sessions, nonces and expired records. */
import type { Config } from '../../shared/config/config.ts'
import { StoreUnavailableError } from '../../shared/errors.ts'
import type { AnsweredRequest } from '../../shared/state/remote.ts'
import type { SweepReport, UploadsCommitted } from '../../shared/state/store.ts'
import type { StoreRequest } from '../../shared/state/store-requests.ts'
import type { LabelOf } from '../../shared/telemetry/catalogue.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'

type SessionEvent = LabelOf<'adapter_sessions_lifecycle_total', 'event'>
type Bucket = LabelOf<'adapter_cleanup_removed_records_total', 'bucket'>
interface Nonce {
  readonly operation: LabelOf<'adapter_nonce_operations_total', 'operation'>
  readonly result: LabelOf<'adapter_nonce_operations_total', 'result'>
}

/** See the file comment. */
export class StoreMetrics {
  readonly #recorder: Recorder
  readonly #backend: Config['statePersistence']['type']

  constructor(recorder: Recorder, { statePersistence }: Pick<Config, 'statePersistence'>) {
    this.#recorder = recorder
    this.#backend = statePersistence.type
  }

  /** Takes one request of this worker's with its answer. */
  readonly answered = ({ request, seconds, outcome }: AnsweredRequest): void => {
    const [operation] = request
    const result = outcome.ok
      ? 'success'
      : outcome.error instanceof StoreUnavailableError
        ? 'unavailable'
        : 'error'
    const backend = this.#backend
    const labels = { operation, backend, result } as const
    this.#recorder.observe('adapter_store_operation_duration_seconds', labels, seconds)
    if (outcome.ok) this.#succeeded(request, outcome.value)
    else this.#failed(request)
  }

  /** The host answers each method with its own value. */
  #succeeded(request: StoreRequest, value: unknown): void {
    if (request[0] === 'openSession') {
      const [{ serverId, principal }] = request[1]
      if (value === 'at_capacity') return
      this.#session(serverId, 'created')
      if (principal !== undefined) this.#session(serverId, 'auth_context_bound')
    } else if (request[0] === 'reviveSession') {
      if (value === 'active') this.#session(request[1][0].serverId, 'revived')
    } else if (request[0] === 'closeSession') {
      if (value !== undefined) this.#session(request[1][0].serverId, 'closed')
    } else if (request[0] === 'replaceUpstreamSession') {
      if (value === true) this.#session(request[1][0].serverId, 'upstream_reinitialised')
    } else if (request[0] === 'isNonceUsed') {
      const result = value === true ? 'replayed' : 'unused'
      this.#nonce(request[1][0].serverId, { operation: 'check', result })
    } else if (request[0] === 'commitUploads') {
      const [key, , , nonce] = request[1]
      const committed = value as UploadsCommitted
      const isReplay = !committed.ok && committed.reason === 'nonce_used'
      if (nonce === undefined || (!committed.ok && !isReplay)) return
      const result = isReplay ? 'replayed' : 'consumed'
      this.#nonce(key.serverId, { operation: 'consume', result })
    } else if (request[0] === 'sweep' && value !== 'fenced') this.#swept(value as SweepReport)
  }

  #failed(request: StoreRequest): void {
    if (request[0] === 'isNonceUsed')
      this.#nonce(request[1][0].serverId, { operation: 'check', result: 'error' })
    if (request[0] === 'commitUploads')
      this.#nonce(request[1][0].serverId, { operation: 'consume', result: 'error' })
  }

  #swept(report: SweepReport): void {
    const { expiredSessions, tombstonedSessions, removedTombstones } = report
    this.#sessions('idle_expired_deleted', expiredSessions)
    this.#sessions('idle_expired_tombstoned', tombstonedSessions)
    this.#sessions('tombstone_expired', removedTombstones)
    const removed: readonly (readonly [Bucket, number])[] = [
      ['expired_sessions', expiredSessions],
      ['tombstoned_sessions', tombstonedSessions],
      ['tombstones', removedTombstones],
      ['uploads', report.removedUploads],
      ['artifacts', report.removedArtifacts],
    ]
    for (const [bucket, count] of removed) countRemoved(this.#recorder, bucket, count)
  }

  #session(serverId: string, event: SessionEvent): void {
    this.#recorder.add('adapter_sessions_lifecycle_total', { server_id: serverId, event })
  }

  /** A sweep says how many, not whose. */
  #sessions(event: SessionEvent, count: number): void {
    const labels = { server_id: 'global', event }
    if (count > 0) this.#recorder.add('adapter_sessions_lifecycle_total', labels, count)
  }

  #nonce(serverId: string, nonce: Nonce): void {
    const labels = { server_id: serverId, backend: this.#backend, ...nonce }
    this.#recorder.add('adapter_nonce_operations_total', labels)
  }
}

/** Counts what maintenance removed. */
export function countRemoved(recorder: Recorder, bucket: Bucket, count: number): void {
  const labels = { server_id: 'global', bucket }
  if (count > 0) recorder.add('adapter_cleanup_removed_records_total', labels, count)
}
