/** What this replica says of itself on /livez, /readyz and /healthz. Public: no addresses, no paths, no error texts. */
import type { Config } from '../shared/config/config.ts'
import type { Inventory } from '../shared/state/store.ts'

/** Longest wait for the store's totals, in milliseconds: health must answer when the store does not. */
const INVENTORY_TIMEOUT_MS = 1_000

/** What health is judged by. */
export interface HealthSources {
  readonly config: Config
  isComplete(): boolean
  isStopping(): boolean
  inventory(): Promise<Inventory>
}

/** Answers the three probes: the process lives; it may take traffic; the whole report. */
export class Health {
  readonly #sources: HealthSources

  constructor(sources: HealthSources) {
    this.#sources = sources
  }

  async answer(probe: 'livez' | 'readyz' | 'healthz'): Promise<{ status: number; body: string }> {
    switch (probe) {
      case 'livez':
        return { status: 200, body: '{"status":"ok"}' }
      case 'readyz': {
        const ready = this.#sources.isComplete() && !this.#sources.isStopping()
        return {
          status: ready ? 200 : 503,
          body: JSON.stringify({ status: ready ? 'ok' : 'unavailable' }),
        }
      }
      case 'healthz':
        return this.#report()
    }
  }

  async #report(): Promise<{ status: number; body: string }> {
    const { config } = this.#sources
    const inventory = await withinLimit(this.#sources.inventory())
    const wired = this.#sources.isComplete()
    const ok = wired && inventory !== undefined && !this.#sources.isStopping()
    const report = {
      status: ok ? 'ok' : 'degraded',
      package: 'remote_mcp_adapter',
      ...(ok
        ? {}
        : {
            degraded_reason:
              inventory === undefined
                ? 'persistence_unhealthy'
                : wired
                  ? 'stopping'
                  : 'adapter_wiring_incomplete',
          }),
      servers: config.servers.map((server) => ({
        server_id: server.id,
        mount_path: server.mountPath,
        status: 'ok',
      })),
      persistence: {
        type: config.statePersistence.type,
        status: inventory === undefined ? 'error' : 'ok',
        ...(inventory === undefined
          ? {}
          : {
              state_inventory: {
                sessions_count: inventory.sessions,
                tombstones_count: inventory.tombstones,
                uploads_count: inventory.uploads,
                artifacts_count: inventory.artifacts,
                pending_artifacts_count: inventory.pendingArtifacts,
                bytes: inventory.bytes,
                reserved_bytes: inventory.reservedBytes,
              },
            }),
      },
    }
    return { status: ok ? 200 : 503, body: JSON.stringify(report) }
  }
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
