/** Metrics of sessions and of the store that keeps them. */
import { counter, EXCHANGE_BOUNDS, gauge, histogram, SERVER, STEP_BOUNDS } from './metric.ts'

const BACKEND = ['memory', 'disk', 'redis'] as const

export const STATE_METRICS = {
  adapter_sessions_lifecycle_total: counter('1', 'What happened to sessions.', {
    server_id: SERVER,
    event: [
      'created',
      'revived',
      'closed',
      'upstream_reinitialised',
      'auth_context_bound',
      'idle_expired_tombstoned',
      'idle_expired_deleted',
      'tombstone_expired',
      'tool_definition_invalidated',
    ],
  }),
  adapter_sessions: gauge(
    '{session}',
    'max',
    'Sessions in the store; replicas that share it say the same.',
    {
      standing: ['active', 'tombstoned'],
    },
  ),
  adapter_sessions_limit: gauge('{session}', 'max', '`sessions.max_active`, where it is set.', {}),
  adapter_stored_files: gauge(
    '{file}',
    'max',
    'Uploads and artifacts in the store; replicas that share it say the same.',
    {
      kind: ['upload', 'artifact'],
    },
  ),
  adapter_stored_bytes: gauge(
    'By',
    'max',
    'Bytes of files that are kept, and that are promised to files that come in; replicas that share the store say the same.',
    { kind: ['kept', 'reserved'] },
  ),
  adapter_stored_limit_bytes: gauge('By', 'max', '`storage.max_size`, where it is set.', {}),
  adapter_tool_definition_drift_total: counter(
    '1',
    'Times that tools were found to differ from what a session first listed.',
    {
      server_id: SERVER,
      mode: ['warn', 'block'],
      block_strategy: ['error', 'baseline_subset'],
      outcome: ['warn', 'block_baseline_subset', 'block_error_invalidate_session', 'block_error'],
    },
  ),
  adapter_persistence_policy_transitions_total: counter(
    '1',
    'Times that the shared store was lost or came back, and what was done then.',
    {
      server_id: SERVER,
      action: ['fail_closed', 'fallback_memory', 'exit', 'recovered'],
      source: ['redis_persistence_health'],
      policy: ['fail_closed', 'fallback_memory', 'exit'],
      configured_backend: BACKEND,
    },
  ),
  adapter_store_operation_duration_seconds: histogram(
    STEP_BOUNDS,
    'Time that an operation of the state store took, as its caller saw it.',
    {
      operation: { from: 'methods of the state store' },
      backend: BACKEND,
      result: ['success', 'error', 'unavailable'],
    },
  ),
  adapter_cleanup_cycles_total: counter('1', 'Runs of maintenance.', {
    server_id: SERVER,
    status: ['ok', 'error'],
  }),
  adapter_cleanup_removed_records_total: counter('1', 'What maintenance removed.', {
    server_id: SERVER,
    bucket: [
      'expired_sessions',
      'tombstoned_sessions',
      'tombstones',
      'uploads',
      'artifacts',
      'orphan_items',
      'orphan_sessions',
      'temporary_files',
      'failures',
    ],
  }),
  adapter_stream_takeover_duration_seconds: histogram(
    EXCHANGE_BOUNDS,
    "Time until a lost replica's stream was open again here.",
    {
      server_id: SERVER,
    },
  ),
  adapter_leases_held: gauge('{lease}', 'sum', 'Leases that this replica holds.', {
    kind: ['stream', 'maintainer'],
  }),
} as const
