/** Metrics of requests: what comes in over HTTP and what goes on to upstreams. */
import {
  counter,
  EXCHANGE_BOUNDS,
  gauge,
  histogram,
  ROUTE_GROUP,
  SERVER,
  STATUS_CLASS,
  STATUS_CODE,
  STEP_BOUNDS,
} from './metric.ts'

const HTTP = {
  server_id: SERVER,
  'http.request.method': ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', '_OTHER'],
  'adapter.route_group': ROUTE_GROUP,
  'http.response.status_code': STATUS_CODE,
  'http.response.status_class': STATUS_CLASS,
} as const

const TOOL_CALL = {
  server_id: SERVER,
  tool_name: { from: 'tools that adapters are configured for; `other` for all others' },
  result: ['success', 'error', 'timeout', 'cancelled'],
} as const

const PING = {
  server_id: SERVER,
  result: ['success', 'error', 'timeout'],
  state_before_probe: ['closed', 'half_open', 'open'],
} as const

export const REQUEST_METRICS = {
  adapter_http_requests_total: counter(
    '1',
    'HTTP requests whose answer is complete, or whose client has left.',
    HTTP,
  ),
  adapter_http_request_duration_seconds: histogram(
    EXCHANGE_BOUNDS,
    'Time from the head of a request to the last byte of its answer; a stream counts when it ends.',
    HTTP,
  ),
  adapter_http_requests_in_flight: gauge(
    '1',
    'sum',
    'HTTP requests without a complete answer, open streams included.',
    {},
  ),
  adapter_auth_rejections_total: counter('1', 'Requests without valid credentials.', {
    server_id: SERVER,
    reason: [
      'invalid_adapter_auth_token',
      'insufficient_scope',
      'token_validation_unavailable',
      'missing_or_invalid_signed_upload_credential',
    ],
    'adapter.route_group': ROUTE_GROUP,
  }),
  adapter_request_rejections_total: counter(
    '1',
    'Requests that the adapter itself answered with an error.',
    {
      server_id: SERVER,
      'adapter.route_group': ROUTE_GROUP,
      reason: {
        from: '`persistence_fail_closed`, `in_flight_limit_exceeded`, `session_unknown`, `session_invalidated`, `upstream_blocked_by_breaker`; else the error code of docs/errors.md in lower case without `ADAPTER_`',
      },
      'http.response.status_code': STATUS_CODE,
      'http.response.status_class': STATUS_CLASS,
    },
  ),
  adapter_upstream_tool_calls_total: counter(
    '1',
    'Tool calls sent to an upstream. A result that says isError is a success: the call was answered.',
    TOOL_CALL,
  ),
  adapter_upstream_tool_call_duration_seconds: histogram(
    EXCHANGE_BOUNDS,
    'Time from sending a tool call to the end of its answer.',
    TOOL_CALL,
  ),
  adapter_upstream_ping_total: counter('1', 'Probes of an upstream.', PING),
  adapter_upstream_ping_latency_seconds: histogram(
    EXCHANGE_BOUNDS,
    'Time that a probe took.',
    PING,
  ),
  adapter_upstream_circuit_breaker_state: gauge(
    '1',
    'max',
    'State of the breaker of an upstream: 0 closed, 1 half open, 2 open; the worst of all workers.',
    { server_id: SERVER },
  ),
  adapter_adapter_wiring_runs_total: counter(
    '1',
    'Attempts to have all workers ready for all servers.',
    {
      server_id: SERVER,
      result: ['ready', 'retry'],
    },
  ),
  adapter_adapter_wiring_not_ready_servers: gauge(
    '{server}',
    'max',
    'Servers that cannot be served yet.',
    {
      server_id: SERVER,
    },
  ),
  adapter_cache_requests_total: counter('1', 'Look-ups in caches.', {
    cache: ['session', 'tool_list', 'upstream_metadata'],
    result: ['hit', 'miss'],
  }),
  adapter_hop_queue_depth: gauge(
    '{frame}',
    'sum',
    'Frames between the primary and a worker that were sent and not yet taken.',
    {
      worker: { from: 'numbers of workers' },
      direction: ['to_worker', 'to_primary'],
    },
  ),
  adapter_replica_hop_requests_total: counter(
    '1',
    'Requests forwarded between replicas or workers to the holder of a connection.',
    {
      direction: ['out', 'in'],
      result: ['success', 'error', 'holder_lost'],
    },
  ),
  adapter_replica_hop_duration_seconds: histogram(
    STEP_BOUNDS,
    'Time that forwarding added before the holder answered.',
    {
      direction: ['out', 'in'],
    },
  ),
  adapter_bytes_in_flight: gauge('By', 'sum', 'Bytes of requests held in memory.', {
    kind: ['messages', 'uploads'],
  }),
} as const
