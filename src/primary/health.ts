/** What this replica says of itself on /livez, /readyz and /healthz. Public: no addresses, no paths, no error texts; addresses and paths on /healthz to whoever is known. */
import type { Config } from '../shared/config/config.ts'
import { maskUrls } from '../shared/config/secrets.ts'
import type { SharedStateReport } from '../shared/state/redis/shared-state.ts'
import type { Inventory } from '../shared/state/store.ts'

/** Longest wait for the store's totals, in milliseconds: health must answer when the store does not. */
const INVENTORY_TIMEOUT_MS = 1_000
/** A store that replicas share is asked for totals once in this time, in milliseconds, however often health is. */
const SHARED_INVENTORY_LIFE_MS = 500

/** What health is judged by. */
export interface HealthSources {
  readonly config: Config
  isComplete(): boolean
  isStopping(): boolean
  inventory(): Promise<Inventory>
  /** What is known of the store that replicas share; undefined when there is none or nothing is known. */
  sharedState(): SharedStateReport | undefined
  /** How many other replicas have their files elsewhere, though they share the store. */
  replicasElsewhere(): number
}

/** Answers the three probes: the process lives; it may take traffic; the whole report. */
export class Health {
  readonly #sources: HealthSources
  #inventory: Promise<Inventory | undefined> | undefined
  #askedAtMs = 0

  constructor(sources: HealthSources) {
    this.#sources = sources
  }

  /** `isTrusted`: it is told to somebody who is known. */
  async answer(
    probe: 'livez' | 'readyz' | 'healthz',
    isTrusted: boolean,
  ): Promise<{ status: number; body: string }> {
    switch (probe) {
      case 'livez':
        return { status: 200, body: '{"status":"ok"}' }
      case 'readyz': {
        const shared = this.#sources.sharedState()
        const canServe = shared === undefined || shared.isAvailable || shared.mode === 'memory'
        const ready = this.#sources.isComplete() && !this.#sources.isStopping() && canServe
        return {
          status: ready ? 200 : 503,
          body: JSON.stringify({ status: ready ? 'ok' : 'unavailable' }),
        }
      }
      case 'healthz':
        return this.#report(isTrusted)
    }
  }

  async #report(isTrusted: boolean): Promise<{ status: number; body: string }> {
    const { config } = this.#sources
    const inventory = await this.#totals()
    const shared = this.#sources.sharedState()
    const reason = this.#degradedReason(inventory, shared)
    const report = {
      status: reason === undefined ? 'ok' : 'degraded',
      package: 'remote_mcp_adapter',
      ...(reason === undefined ? {} : { degraded_reason: reason }),
      servers: config.servers.map((server) => ({
        server_id: server.id,
        mount_path: server.mountPath,
        ...(isTrusted && server.upstream.url !== null
          ? { upstream_url: maskUrls(server.upstream.url) }
          : {}),
        status: 'ok',
      })),
      persistence: {
        type: config.statePersistence.type,
        status: persistenceStatus(inventory, shared),
        ...(isTrusted ? { backend_details: describeBackend(config) } : {}),
        ...(config.statePersistence.type === 'redis' ? describeShared(config, shared) : {}),
        ...(inventory === undefined ? {} : { state_inventory: describeInventory(inventory) }),
      },
    }
    return { status: reason === undefined ? 200 : 503, body: JSON.stringify(report) }
  }

  #degradedReason(
    inventory: Inventory | undefined,
    shared: SharedStateReport | undefined,
  ): string | undefined {
    if (!this.#sources.isComplete()) return 'adapter_wiring_incomplete'
    const { unavailablePolicy } = this.#sources.config.statePersistence
    const ofPolicy = shared === undefined ? undefined : policyReason(unavailablePolicy, shared)
    if (ofPolicy !== undefined) return ofPolicy
    if (inventory === undefined) return 'persistence_unhealthy'
    if (this.#sources.replicasElsewhere() > 0) return 'storage_root_not_shared'
    return this.#sources.isStopping() ? 'stopping' : undefined
  }

  #totals(): Promise<Inventory | undefined> {
    const nowMs = performance.now()
    const { type } = this.#sources.config.statePersistence
    const lifeMs = type === 'redis' ? SHARED_INVENTORY_LIFE_MS : 0
    if (this.#inventory === undefined || nowMs - this.#askedAtMs >= lifeMs) {
      this.#askedAtMs = nowMs
      this.#inventory = withinLimit(this.#sources.inventory())
    }
    return this.#inventory
  }
}

/** Where state is, under the names that dashboards know. Passwords are no part of it. */
function describeBackend({ statePersistence: state, storage }: Config): object {
  const common = { storage_root: storage.root, refresh_on_startup: state.refreshOnStartup }
  switch (state.type) {
    case 'redis': {
      const { host, port, db, keyBase, tlsInsecure, sentinel, cluster } = state.redis
      const place =
        host === null ? { nodes: [...sentinel.nodes, ...cluster.nodes] } : { host, port }
      return {
        mode: 'redis',
        ...place,
        db,
        key_base: keyBase,
        tls_insecure: tlsInsecure,
        ...common,
      }
    }
    case 'disk':
      return {
        mode: 'sqlite',
        db_path: state.disk.localPath,
        wal_enabled: state.disk.wal.enabled,
        ...common,
      }
    case 'memory':
      return {
        mode: 'snapshot_backed_memory',
        snapshot_interval_seconds: state.snapshotIntervalSeconds,
        ...common,
      }
  }
}

type Policy = Config['statePersistence']['unavailablePolicy']

function policyReason(policy: Policy, shared: SharedStateReport): string | undefined {
  if (shared.mode === 'memory') return 'fallback_memory_activated_by_redis_persistence_health'
  if (shared.isAvailable) return undefined
  return policy === 'exit'
    ? 'persistence_unavailable_exit_via_redis_persistence_health'
    : 'persistence_unavailable_via_redis_persistence_health'
}

function persistenceStatus(
  inventory: Inventory | undefined,
  shared: SharedStateReport | undefined,
): string {
  if (shared?.mode === 'memory') return 'degraded'
  return inventory === undefined || shared?.isAvailable === false ? 'error' : 'ok'
}

/** What concerns a store that replicas share, under the names that dashboards know. */
function describeShared(config: Config, shared: SharedStateReport | undefined): object {
  const { redis, unavailablePolicy } = config.statePersistence
  const isFallback = shared?.mode === 'memory'
  const reason = shared === undefined ? undefined : policyReason(unavailablePolicy, shared)
  return {
    configured_type: 'redis',
    effective_type: isFallback ? 'memory' : 'redis',
    fallback_active: isFallback,
    policy: {
      configured_backend: 'redis',
      active_backend: isFallback ? 'memory' : 'redis',
      unavailable_policy: unavailablePolicy,
      status: reason === undefined ? 'ok' : 'degraded',
      unavailable: shared?.isAvailable !== true,
      fallback_active: isFallback,
      exit_requested: unavailablePolicy === 'exit' && shared?.isAvailable === false,
      degraded_reason: reason ?? null,
      last_transition_at: timeOf(shared?.sinceMs),
    },
    redis: {
      ping: {
        interval_seconds: redis.pingSeconds,
        timeout_seconds: redis.commandTimeoutSeconds,
        last_latency_ms: shared?.latencyMs ?? null,
        last_success_at: timeOf(shared?.lastSuccessAtMs),
        last_failure_at: timeOf(shared?.lastFailureAtMs),
      },
      invalidations: shared?.callsBack === true ? 'ok' : 'interrupted',
    },
    replicas_count: isFallback ? 1 : (shared?.replicas ?? null),
  }
}

function describeInventory(inventory: Inventory): object {
  return {
    sessions_count: inventory.sessions,
    tombstones_count: inventory.tombstones,
    uploads_count: inventory.uploads,
    artifacts_count: inventory.artifacts,
    pending_artifacts_count: inventory.pendingArtifacts,
    bytes: inventory.bytes,
    reserved_bytes: inventory.reservedBytes,
  }
}

/** ISO 8601 of Unix milliseconds. */
function timeOf(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : new Date(ms).toISOString()
}

async function withinLimit<T>(work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), INVENTORY_TIMEOUT_MS)
  })
  try {
    return await Promise.race([work.catch(() => undefined), limit])
  } finally {
    clearTimeout(timer)
  }
}
