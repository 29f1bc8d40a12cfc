/** The labels that say where a request went: from the configuration, so that nobody who sends requests can make more of them. */
import type { Config } from '../config/config.ts'
import type { ErrorCode } from '../errors.ts'
import type { RouteKind } from '../frames/frames.ts'

/** Labels of a route. */
export interface RouteLabels {
  readonly server_id: string
  readonly 'adapter.route_group': string
}

/** Names that dashboards know for some of our errors; the others are told by their code. */
const KNOWN_REASONS: Partial<Readonly<Record<ErrorCode, string>>> = {
  ADAPTER_STATE_UNAVAILABLE: 'persistence_fail_closed',
  ADAPTER_IN_FLIGHT_LIMIT: 'in_flight_limit_exceeded',
  ADAPTER_TOOLS_CHANGED: 'session_invalidated',
  ADAPTER_UPSTREAM_DOWN: 'upstream_blocked_by_breaker',
}

/** The server of a request. */
export function serverLabel(config: Pick<Config, 'servers'>, serverIndex: number): string {
  return config.servers[serverIndex]?.id ?? 'unknown'
}

/** Of a request that is for a worker. */
export function routeLabels(
  config: Pick<Config, 'core' | 'servers'>,
  kind: RouteKind,
  serverIndex: number,
): RouteLabels {
  return {
    server_id: serverLabel(config, serverIndex),
    'adapter.route_group': groupOf(config, kind, serverIndex),
  }
}

/** The reason of a rejection. */
export function reasonOf(code: ErrorCode): string {
  return KNOWN_REASONS[code] ?? code.slice('ADAPTER_'.length).toLowerCase()
}

/** `2xx` and the like. */
export function statusClass(status: number): '1xx' | '2xx' | '3xx' | '4xx' | '5xx' {
  if (status < 200) return '1xx'
  if (status < 300) return '2xx'
  if (status < 400) return '3xx'
  return status < 500 ? '4xx' : '5xx'
}

function groupOf(
  { core, servers }: Pick<Config, 'core' | 'servers'>,
  kind: RouteKind,
  serverIndex: number,
): string {
  switch (kind) {
    case 'mcp':
      return servers[serverIndex]?.mountPath ?? 'other'
    case 'sse':
      return `${servers[serverIndex]?.mountPath ?? ''}/sse`
    case 'messages':
      return `${servers[serverIndex]?.mountPath ?? ''}/messages`
    case 'upload':
      return `${core.uploadPath}/{server_id}`
    case 'artifact':
      return '/artifacts/{server_id}/{session_id}/{artifact_id}/{filename}'
    case 'hop':
      return 'hop'
  }
}
