/** `state_persistence`: where session state lives. */

import { z } from 'zod'

import {
  bool,
  blankIsNull,
  choice,
  hostAndPort,
  integer,
  orSection,
  positive,
  section,
  text,
} from './fields.ts'

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

const tlsSchema = section({
  ca_file: text()
    .nullable()
    .default(null)
    .describe('PEM file with the authorities to trust; null for the usual public ones.'),
  cert_file: text()
    .nullable()
    .default(null)
    .describe('PEM file with the certificate to show to Redis; needs `key_file`.'),
  key_file: text()
    .nullable()
    .default(null)
    .describe('PEM file with the private key of `cert_file`, without a passphrase.'),
  server_name: text()
    .nullable()
    .default(null)
    .describe('The name that the certificate must be for; null for the host that is connected to.'),
})

const sentinelSchema = section({
  master_name: text().nullable().default(null).describe('What the Sentinels call the master.'),
  nodes: z.array(hostAndPort()).default([]).describe('The Sentinels, as `host:port`.'),
  username: blankIsNull().default(null).describe('ACL user of the Sentinels.'),
  password: blankIsNull().default(null).describe('Password of the Sentinels. Secret.'),
})

const clusterSchema = section({
  nodes: z
    .array(hostAndPort())
    .default([])
    .describe('Members of the Cluster, as `host:port`; the others are found through them.'),
})

const redisSchema = section({
  host: text()
    .nullable()
    .default(null)
    .describe(
      'Redis host. Required when `type` is `redis` and neither `sentinel` nor `cluster` is set.',
    ),
  port: integer({ min: 1, max: 65535 }).default(6379).describe('Redis port.'),
  db: integer({ min: 0 }).default(0).describe('Redis database number.'),
  username: blankIsNull().default(null).describe('Redis ACL user.'),
  password: blankIsNull().default(null).describe('Redis password. Secret.'),
  tls: orSection(bool(), tlsSchema)
    .default(false)
    .describe('Connect over TLS and check the certificate; a section says how.'),
  tls_insecure: bool()
    .default(false)
    .describe('Connect over TLS without checking the certificate.'),
  key_base: text().default('mcp_remote_adapter').describe('Prefix of every key.'),
  ping_seconds: positive()
    .default(5)
    .describe('Seconds between two checks of the connection while all is well.'),
  connect_timeout_seconds: positive()
    .default(2)
    .describe('Seconds until an attempt to connect is given up and the next one begins.'),
  command_timeout_seconds: positive()
    .default(2)
    .describe('Seconds after which a command without an answer has failed.'),
  unavailable_after_seconds: positive()
    .default(3)
    .describe(
      'Seconds for which every check must fail before `unavailable_policy` applies. Set it above what a fail-over takes.',
    ),
  sentinel: sentinelSchema
    .prefault({})
    .describe('The master is the one that Redis Sentinels name. `host` and `port` are not used.'),
  cluster: clusterSchema
    .prefault({})
    .describe('The state is in a Redis Cluster. `host` and `port` are not used.'),
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
