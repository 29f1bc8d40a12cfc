/** From the configuration to what the state store is opened with. */
import { dirname, join } from 'node:path'

import type { Config } from '../config/config.ts'
import type { LocalStoreOptions } from './open.ts'

/** The store that a configuration asks for. `memory` keeps its snapshot beside where `disk` would keep its database. */
export function localStoreOptions(config: Config): LocalStoreOptions {
  const { statePersistence, sessions, uploads, artifacts, storage } = config
  return {
    type: statePersistence.type,
    path: statePersistence.disk.localPath,
    walEnabled: statePersistence.disk.wal.enabled,
    snapshotPath: join(dirname(statePersistence.disk.localPath), 'memory-snapshot.sqlite3'),
    snapshotIntervalMs: statePersistence.snapshotIntervalSeconds * 1_000,
    refreshOnStartup: statePersistence.refreshOnStartup,
    policy: {
      maxActiveSessions: sessions.maxActive,
      idleTtlMs: milliseconds(sessions.idleTtlSeconds),
      allowRevival: sessions.allowRevival,
      tombstoneTtlMs: sessions.tombstoneTtlSeconds * 1_000,
      maxSessionBytes: sessions.maxTotalSessionSize,
      maxTotalBytes: storage.maxSize,
      maxArtifactsPerSession: artifacts.maxPerSession,
      uploadTtlMs: milliseconds(uploads.ttlSeconds),
      artifactTtlMs: milliseconds(artifacts.ttlSeconds),
      pendingGraceMs: storage.orphanSweeperGraceSeconds * 1_000,
      evictionPolicy: sessions.evictionPolicy,
    },
  }
}

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : seconds * 1_000
}
