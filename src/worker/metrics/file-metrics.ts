/** Counts uploads, the URLs that grant them, and downloads. */
import type { Config } from '../../shared/config/config.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import type { LabelOf } from '../../shared/telemetry/catalogue.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'
import type { DownloadOutcome } from '../files/download-endpoint.ts'
import type { UploadCredential, UploadOutcome } from '../files/upload-endpoint.ts'

type FailureReason = LabelOf<'adapter_upload_failures_total', 'reason'>

const FAILURES: Partial<Readonly<Record<ErrorCode, FailureReason>>> = {
  ADAPTER_ROUTE_UNKNOWN: 'unknown_server',
  ADAPTER_STATE_UNAVAILABLE: 'persistence_unavailable',
  ADAPTER_SESSION_UNKNOWN: 'session_invalidated',
  ADAPTER_UPLOAD_TICKET_INVALID: 'invalid_credential',
  ADAPTER_UPLOAD_TICKET_EXPIRED: 'invalid_credential',
  ADAPTER_UPLOAD_TICKET_USED: 'invalid_credential',
  ADAPTER_UPLOAD_MALFORMED: 'no_file_parts',
  ADAPTER_UPLOAD_DIGEST_REQUIRED: 'sha256_count_mismatch',
  ADAPTER_UPLOAD_DIGEST_MISMATCH: 'sha256_mismatch',
  ADAPTER_UPLOAD_TOO_LARGE: 'too_large',
  ADAPTER_SESSION_QUOTA: 'quota_exceeded',
  ADAPTER_GLOBAL_QUOTA: 'quota_exceeded',
  ADAPTER_UPLOAD_INCOMPLETE: 'incomplete',
  ADAPTER_OVERLOADED: 'overloaded',
}

/** See the file comment. */
export class FileMetrics {
  readonly #recorder: Recorder
  readonly #config: Pick<Config, 'core'>
  readonly #backend: Config['statePersistence']['type']

  constructor(recorder: Recorder, config: Pick<Config, 'core' | 'statePersistence'>) {
    this.#recorder = recorder
    this.#config = config
    this.#backend = config.statePersistence.type
  }

  uploaded(outcome: UploadOutcome): void {
    const labels = { server_id: outcome.serverId ?? 'unknown' }
    if (!outcome.ok) {
      const reason = FAILURES[outcome.error.code] ?? 'upload_processing_error'
      this.#recorder.add('adapter_upload_failures_total', { ...labels, reason })
      return
    }
    const bytes = outcome.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    this.#recorder.add('adapter_upload_batches_total', labels)
    this.#recorder.add('adapter_upload_files_total', labels, outcome.files.length)
    this.#recorder.add('adapter_upload_bytes_total', labels, bytes)
  }

  /** A URL was given out. */
  issued(serverId: string): void {
    this.#recorder.add('adapter_upload_credentials_total', {
      server_id: serverId,
      operation: 'issue',
      result: 'issued',
      backend: this.#backend,
    })
  }

  /** A URL was shown. */
  validated({ serverId, result }: UploadCredential): void {
    const labels = { server_id: serverId, operation: 'validate', result } as const
    this.#recorder.add('adapter_upload_credentials_total', { ...labels, backend: this.#backend })
    if (result === 'accepted' || result === 'disabled') return
    this.#recorder.add('adapter_auth_rejections_total', {
      server_id: serverId,
      reason: 'missing_or_invalid_signed_upload_credential',
      'adapter.route_group': `${this.#config.core.uploadPath}/{server_id}`,
    })
  }

  downloaded({ serverId, result, authMode, bytes, seconds }: DownloadOutcome): void {
    const labels = { server_id: serverId ?? 'unknown', result, auth_mode: authMode }
    this.#recorder.add('adapter_artifact_downloads_total', labels)
    this.#recorder.observe('adapter_artifact_download_duration_seconds', labels, seconds)
    if (bytes > 0) this.#recorder.add('adapter_artifact_download_bytes_total', labels, bytes)
  }
}
