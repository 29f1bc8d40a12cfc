/** Metrics of files: uploads and the URLs that grant them, and downloads of artifacts. */
import { counter, EXCHANGE_BOUNDS, histogram, SERVER } from './metric.ts'

const BY_SERVER = { server_id: SERVER } as const

const BACKEND = ['memory', 'disk', 'redis'] as const

const DOWNLOAD = {
  server_id: SERVER,
  result: [
    'success',
    'session_mismatch',
    'not_found',
    'file_missing',
    'filename_mismatch',
    'persistence_unavailable',
    'expired',
    'refused',
    'error',
  ],
  auth_mode: ['signed_url', 'session_context'],
} as const

export const FILE_METRICS = {
  adapter_upload_batches_total: counter(
    '1',
    'Upload requests whose files were all kept.',
    BY_SERVER,
  ),
  adapter_upload_files_total: counter('1', 'Files kept.', BY_SERVER),
  adapter_upload_bytes_total: counter('By', 'Bytes of the files kept.', BY_SERVER),
  adapter_upload_failures_total: counter(
    '1',
    'Upload requests that were refused or failed; nothing of them is kept.',
    {
      server_id: SERVER,
      reason: [
        'unknown_server',
        'no_file_parts',
        'sha256_count_mismatch',
        'sha256_mismatch',
        'persistence_unavailable',
        'session_invalidated',
        'upload_processing_error',
        'invalid_credential',
        'too_large',
        'quota_exceeded',
        'incomplete',
        'overloaded',
      ],
    },
  ),
  adapter_upload_credentials_total: counter('1', 'Signed upload URLs given out and shown.', {
    server_id: SERVER,
    operation: ['issue', 'validate'],
    result: [
      'issued',
      'accepted',
      'disabled',
      'missing_fields',
      'expired',
      'bad_signature',
      'replay_or_invalid',
    ],
    backend: BACKEND,
  }),
  adapter_nonce_operations_total: counter('1', 'Uses of the one-time part of upload URLs.', {
    server_id: SERVER,
    operation: ['check', 'consume'],
    result: ['unused', 'consumed', 'replayed', 'error'],
    backend: BACKEND,
  }),
  adapter_artifact_downloads_total: counter('1', 'Requests for artifacts.', DOWNLOAD),
  adapter_artifact_download_duration_seconds: histogram(
    EXCHANGE_BOUNDS,
    'Time until an artifact was found and its sending began, or it was refused.',
    DOWNLOAD,
  ),
  adapter_artifact_download_bytes_total: counter(
    'By',
    'Bytes of artifacts that were begun to be sent.',
    DOWNLOAD,
  ),
} as const
