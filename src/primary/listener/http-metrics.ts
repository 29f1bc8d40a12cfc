/** Counts requests where they come in and where they are refused. A request costs a look into a map by a number, and two additions. */
import type { Config } from '../../shared/config/config.ts'
import type { AdapterError, ErrorCode } from '../../shared/errors.ts'
import type { LabelOf, Labels } from '../../shared/telemetry/catalogue.ts'
import type { CounterCell, HistogramCell, Recorder } from '../../shared/telemetry/recorder.ts'
import { reasonOf, routeLabels, statusClass } from '../../shared/telemetry/route-labels.ts'
import type { RouteLabels } from '../../shared/telemetry/route-labels.ts'
import type { Route } from '../routes.ts'

type Method = LabelOf<'adapter_http_requests_total', 'http.request.method'>

const METHODS: readonly Method[] = [
  'GET',
  'POST',
  'PUT',
  'DELETE',
  'HEAD',
  'OPTIONS',
  'PATCH',
  '_OTHER',
]
const OTHER_METHOD = METHODS.length - 1

/** What an upstream may answer; anything else counts as this. */
const ODD_STATUS = 599

const AUTH_REASONS: Partial<
  Readonly<Record<ErrorCode, LabelOf<'adapter_auth_rejections_total', 'reason'>>>
> = {
  ADAPTER_UNAUTHORIZED: 'invalid_adapter_auth_token',
  ADAPTER_SCOPE_MISSING: 'insufficient_scope',
  ADAPTER_KEYS_UNAVAILABLE: 'token_validation_unavailable',
}

interface Cells {
  readonly requests: CounterCell
  readonly duration: HistogramCell
}

/** See the file comment. */
export class HttpMetrics {
  readonly #config: Pick<Config, 'core' | 'servers'>
  readonly #recorder: Recorder
  readonly #metricsPath: string
  readonly #cells = new Map<number, Cells>()

  constructor(config: Pick<Config, 'core' | 'servers' | 'telemetry'>, recorder: Recorder) {
    this.#config = config
    this.#recorder = recorder
    this.#metricsPath = config.telemetry.prometheus.path
  }

  /** A request is over; `startedAtMs` on the clock of `performance.now()`. */
  ended(route: Route, method: string, startedAtMs: number, status: number): void {
    const { requests, duration } = this.#cellsOf(route, method, status)
    requests.add(1)
    duration.observe((performance.now() - startedAtMs) / 1_000)
  }

  /** A request is answered with an error here, not by a worker. */
  rejected(route: Route, error: AdapterError): void {
    const labels = this.#labelsOf(route)
    const { code, status } = error
    this.#recorder.add('adapter_request_rejections_total', {
      ...labels,
      reason: reasonOf(code),
      'http.response.status_code': String(status),
      'http.response.status_class': statusClass(status),
    })
    const reason = AUTH_REASONS[code]
    if (reason !== undefined)
      this.#recorder.add('adapter_auth_rejections_total', { ...labels, reason })
  }

  #cellsOf(route: Route, method: string, status: number): Cells {
    const found = METHODS.indexOf(method as Method) // only looked for
    const methodIndex = found === -1 ? OTHER_METHOD : found
    const known = status >= 100 && status <= ODD_STATUS ? status : ODD_STATUS
    const key = (placeOf(route) * METHODS.length + methodIndex) * (ODD_STATUS + 1) + known
    const cells = this.#cells.get(key)
    if (cells !== undefined) return cells
    const labels: Labels<'adapter_http_requests_total'> = {
      ...this.#labelsOf(route),
      'http.request.method': METHODS[methodIndex] ?? '_OTHER',
      'http.response.status_code': String(known),
      'http.response.status_class': statusClass(known),
    }
    const made = {
      requests: this.#recorder.counter('adapter_http_requests_total', labels),
      duration: this.#recorder.histogram('adapter_http_request_duration_seconds', labels),
    }
    this.#cells.set(key, made)
    return made
  }

  #labelsOf(route: Route): RouteLabels {
    switch (route.kind) {
      case 'mcp':
      case 'sse':
      case 'messages':
      case 'upload':
      case 'artifact':
        return routeLabels(this.#config, route.kind, route.serverIndex)
      case 'health':
        return global(`/${route.probe}`)
      case 'metadata':
        return global('/.well-known/*')
      case 'metrics':
        return global(this.#metricsPath)
      case 'none':
        return global('other')
    }
  }
}

function global(group: string): RouteLabels {
  return { server_id: 'global', 'adapter.route_group': group }
}

/** Kinds of routes that `placeOf` tells apart, below those of servers. */
const FIXED = { livez: 0, readyz: 1, healthz: 2, metadata: 3, metrics: 4, none: 5 } as const
const SERVER_ROUTES = { mcp: 0, sse: 1, messages: 2, upload: 3, artifact: 4 } as const

/** A small number for each group of routes. */
function placeOf(route: Route): number {
  switch (route.kind) {
    case 'mcp':
    case 'sse':
    case 'messages':
    case 'upload':
    case 'artifact':
      // From -1 on.
      return 6 + (route.serverIndex + 1) * 5 + SERVER_ROUTES[route.kind]
    case 'health':
      return FIXED[route.probe]
    case 'metadata':
    case 'metrics':
    case 'none':
      return FIXED[route.kind]
  }
}
