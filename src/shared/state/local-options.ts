/** From the configuration to what the state store is opened with. */
import { dirname, join } from 'node:path'

import type { Config } from '../config/config.ts'
import type { LocalStoreOptions } from './open.ts'
import type { RequestRate, StorePolicy } from './store.ts'

/** A call whose process stopped renewing its lease frees its slot after this. */
export const CALL_LEASE_MS = 15_000
/** A stream whose holder stopped renewing is taken over after this, when nothing told of its end before. */
const STREAM_LEASE_MS = 3_000

/** Pending artifacts of a running call are noted every few seconds: a shorter grace would drop them. */
const MIN_PENDING_GRACE_MS = 30_000

/** The store that a configuration asks for when replicas share none. `memory` keeps its snapshot beside where `disk` would keep its database. */
export function localStoreOptions(config: Config): LocalStoreOptions {
  const { statePersistence } = config
  return {
    type: statePersistence.type === 'disk' ? 'disk' : 'memory',
    path: statePersistence.disk.localPath,
    walEnabled: statePersistence.disk.wal.enabled,
    snapshotPath: join(dirname(statePersistence.disk.localPath), 'memory-snapshot.sqlite3'),
    snapshotIntervalMs: statePersistence.snapshotIntervalSeconds * 1_000,
    refreshOnStartup: statePersistence.refreshOnStartup,
    policy: storePolicy(config),
  }
}

/** Limits and lifetimes, for a store of any kind. */
export function storePolicy({ core, sessions, uploads, artifacts, storage }: Config): StorePolicy {
  return {
    maxActiveSessions: sessions.maxActive,
    idleTtlMs: milliseconds(sessions.idleTtlSeconds),
    allowRevival: sessions.allowRevival,
    tombstoneTtlMs: sessions.tombstoneTtlSeconds * 1_000,
    maxSessionBytes: sessions.maxTotalSessionSize,
    maxTotalBytes: storage.maxSize,
    maxArtifactsPerSession: artifacts.maxPerSession,
    uploadTtlMs: milliseconds(uploads.ttlSeconds),
    artifactTtlMs: milliseconds(artifacts.ttlSeconds),
    pendingGraceMs: Math.max(MIN_PENDING_GRACE_MS, storage.orphanSweeperGraceSeconds * 1_000),
    evictionPolicy: sessions.evictionPolicy,
    maxInFlightPerSession: sessions.maxInFlightPerSession,
    requestRate: requestRateOf(core.rateLimit),
    callLeaseMs: CALL_LEASE_MS,
    streamLeaseMs: STREAM_LEASE_MS,
  }
}

function requestRateOf({
  requestsPerMinute,
  burst,
}: Config['core']['rateLimit']): RequestRate | null {
  if (requestsPerMinute === null) return null
  return { perMinute: requestsPerMinute, burst: burst ?? requestsPerMinute }
}

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : seconds * 1_000
}
