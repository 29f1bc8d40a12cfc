/**
 * What health says of the upstreams, read from memory: no upstream is asked because somebody looks at health. And when a replica that starts is ready.
 *
 * It is ready when every upstream has answered. When only some have, they get half a second, so that traffic does not come before those that take a
 * moment; then those that answer must not wait for those that don't. When none has, there is nothing to be ready for, until `core.max_start_wait_seconds`
 * are over: then the replica says what it can (errors, uploads, downloads, what an upstream that comes back answers). Whoever was ready once stays so: an
 * upstream that fails is no reason to take every other one out of service.
 */
import type { Config, ServerConfig } from '../shared/config/config.ts'
import { maskUrls } from '../shared/config/secrets.ts'
import type { ServerVitals, UpstreamVitals, VitalsReport } from '../shared/upstream-vitals.ts'

/** How long those that answered wait for the others, in milliseconds. */
const OTHERS_WAIT_MS = 500

interface Watched {
  readonly server: ServerConfig
  readonly vitals: ServerVitals
}

/** See the file comment. The start is when this is made. */
export class UpstreamHealth {
  readonly #servers: readonly Watched[]
  readonly #maxWaitSeconds: number
  readonly #clock: () => number
  readonly #startedAtMs: number
  /** How long the start took, in milliseconds, once it is over. */
  #waitedMs: number | undefined

  /** `clock` is monotonic, in milliseconds. */
  constructor(
    config: Pick<Config, 'core' | 'servers'>,
    vitals: UpstreamVitals,
    clock: () => number = () => performance.now(),
  ) {
    this.#servers = config.servers.map((server, i) => ({ server, vitals: vitals.server(i) }))
    this.#maxWaitSeconds = config.core.maxStartWaitSeconds
    this.#clock = clock
    this.#startedAtMs = clock()
  }

  /** Whether upstreams are no longer waited for. */
  get isReady(): boolean {
    if (this.#waitedMs !== undefined) return true
    const waitedMs = this.#clock() - this.#startedAtMs
    const missing = this.#missing().length
    const isReady =
      missing === 0 ||
      (missing < this.#servers.length && waitedMs >= OTHERS_WAIT_MS) ||
      waitedMs >= this.#maxWaitSeconds * 1_000
    if (isReady) this.#waitedMs = waitedMs
    return isReady
  }

  /** Whether some upstream is out of service. */
  get isDegraded(): boolean {
    return this.#servers.some(({ vitals }) => !vitals.isClosed)
  }

  /** `servers` of the report. */
  describeServers(isTrusted: boolean): object[] {
    return this.#servers.map(({ server, vitals }) => {
      const report = vitals.report()
      return {
        server_id: server.id,
        mount_path: server.mountPath,
        ...(isTrusted && server.upstream.url !== null
          ? { upstream_url: maskUrls(server.upstream.url) }
          : {}),
        ...describeStanding(server, report),
        ...(isTrusted ? { in_flight_count: report.inFlight } : {}),
        last_answer_at: timeOf(report.answeredAtMs),
        ...(server.upstreamPing.enabled ? describePings(server, report, isTrusted) : {}),
      }
    })
  }

  /** `startup` of the report. */
  describeStart(): object {
    const isReady = this.isReady
    const waitedMs = this.#waitedMs ?? this.#clock() - this.#startedAtMs
    return {
      ready_within_wait_budget: isReady && waitedMs < this.#maxWaitSeconds * 1_000,
      max_start_wait_seconds: this.#maxWaitSeconds,
      waited_seconds: Math.round(waitedMs) / 1_000,
      not_ready_servers: this.#missing().map(({ server }) => server.id),
    }
  }

  /** Those that are asked and have never answered. One that can't be asked is not waited for. */
  #missing(): readonly Watched[] {
    return this.#servers.filter(({ vitals }) => vitals.isProbed && !vitals.hasAnswered)
  }
}

function describeStanding({ upstreamPing }: ServerConfig, { state }: VitalsReport): object {
  if (!upstreamPing.enabled) return { status: 'ok', detail: 'upstream_ping_disabled' }
  return state === 'closed'
    ? { status: 'ok' }
    : { status: 'degraded', detail: 'upstream_unhealthy' }
}

/** Under the names that dashboards know. */
function describePings(
  { upstreamPing: policy }: ServerConfig,
  report: VitalsReport,
  isTrusted: boolean,
): object {
  return {
    breaker: {
      state: report.state,
      consecutive_failures: report.failures,
      failure_threshold: policy.failureThreshold,
      open_cooldown_seconds: policy.openCooldownSeconds,
      half_open_probe_allowance: policy.halfOpenProbeAllowance,
      half_open_probe_count: report.trials,
      half_open_success_count: report.successes,
      last_transition_at: timeOf(report.changedAtMs),
    },
    ping: {
      interval_seconds: policy.intervalSeconds,
      timeout_seconds: policy.timeoutSeconds,
      last_latency_ms: report.latencyMs,
      ...(isTrusted ? { last_error: report.lastFailure } : {}),
      last_success_at: timeOf(report.pingSuccessAtMs),
      last_failure_at: timeOf(report.pingFailureAtMs),
    },
  }
}

/** ISO 8601 of Unix milliseconds. */
function timeOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
