/** `state_persistence`: where session state lives. */

import { bool, blankIsNull, choice, integer, positive, section, text } from './fields.ts'

const diskSchema = section({
  local_path: text()
    .nullable()
    .default(null)
    .describe('The database file; null for `state/adapter_state.sqlite3` under `storage.root`.'),
  wal: section({
    enabled: bool().default(true).describe('Use write-ahead logging.'),
  })
    .prefault({})
    .describe('Write-ahead log of the database.'),
})

const redisSchema = section({
  host: text().nullable().default(null).describe('Redis host. Required when `type` is `redis`.'),
  port: integer({ min: 1, max: 65535 }).default(6379).describe('Redis port.'),
  db: integer({ min: 0 }).default(0).describe('Redis database number.'),
  username: blankIsNull().default(null).describe('Redis ACL user.'),
  password: blankIsNull().default(null).describe('Redis password. Secret.'),
  tls: bool()
    .default(false)
    .describe(
      'Connect over TLS and check the certificate. `NODE_EXTRA_CA_CERTS` names a file with private authorities.',
    ),
  tls_insecure: bool()
    .default(false)
    .describe('Connect over TLS without checking the certificate.'),
  key_base: text().default('mcp_remote_adapter').describe('Prefix of every key.'),
  ping_seconds: positive().default(5).describe('Seconds between two checks of the connection.'),
})

const reconciliationSchema = section({
  mode: choice(['disabled', 'if_empty', 'always'])
    .default('if_empty')
    .describe('When to rebuild records from the files under `storage.root` at start.'),
  legacy_server_id: text()
    .nullable()
    .default(null)
    .describe('The server that files in the layout without server ids belong to.'),
})

/** `state_persistence`. */
export const statePersistenceSchema = section({
  type: choice(['memory', 'disk', 'redis'])
    .default('disk')
    .describe(
      'Where session state lives: `memory` (lost at exit), `disk` (one node) or `redis` (several replicas).',
    ),
  refresh_on_startup: bool().default(false).describe('Drop all stored sessions at start.'),
  snapshot_interval_seconds: positive()
    .default(30)
    .describe('Seconds between two snapshots while state is held in memory.'),
  unavailable_policy: choice(['fail_closed', 'exit', 'fallback_memory'])
    .default('fail_closed')
    .describe(
      'While the store cannot be reached: refuse requests (`fail_closed`), end the process (`exit`) or go on in memory (`fallback_memory`).',
    ),
  disk: diskSchema.prefault({}).describe('State on the local disk.'),
  redis: redisSchema.prefault({}).describe('State in Redis.'),
  reconciliation: reconciliationSchema.prefault({}).describe('Rebuilding records from files.'),
})
