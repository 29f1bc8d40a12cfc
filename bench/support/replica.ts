/** Starts the adapter as an operator would: its entry point, a configuration file, a fresh directory. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { startChild } from './child.ts'
import { collectGarbage, INSPECTABLE } from './collect-garbage.ts'
import { settledResidentBytes } from './cpu.ts'
import type { Target } from './mcp-client.ts'

const BUILT_ENTRY = fileURLToPath(new URL('../../src/primary/main.js', import.meta.url))
const TOKEN = 'bench-token-bench-token-bench-token'
/** The id of the server that most scenarios use. */
export const SERVER_ID = 'bench'

/** How long memory may take to settle, in milliseconds. */
const SETTLE_MS = 10_000

/** What differs between the scenarios. */
export interface ReplicaOptions {
  /** The adapter's main.js; by default the one that was compiled with this file. */
  readonly entry?: string | undefined
  /** Directory under which the replica's own is made. */
  readonly directory: string
  readonly upstreamUrl: string
  /** Further servers without adapters: id to upstream URL. */
  readonly servers?: Readonly<Record<string, string>>
  readonly state?: object
  readonly telemetry?: object
  /** `sessions.max_in_flight_per_session`; null for no limit. */
  readonly inFlightLimit?: number | null
  readonly nodeArgs?: readonly string[]
  /** Makes `keptBytes` work. */
  readonly inspectable?: boolean
}

/** A replica that serves. */
export interface Replica {
  readonly pid: number
  /** The MCP endpoint of `SERVER_ID`, and what lets a client in. */
  readonly target: Target
  /** The endpoint of another configured server. */
  targetOf(serverId: string): Target
  readonly baseUrl: string
  /** Milliseconds from starting the process to its first 200 from /readyz. */
  readonly readyInMs: number
  /** Resident memory in bytes after all garbage was collected, of a replica that is `inspectable`. */
  keptBytes(): Promise<number>
  /** Ends it and removes its directory. */
  stop(): Promise<void>
}

/** Starts a replica; authentication and every limit that has no default are on, as in production. */
export async function startReplica(options: ReplicaOptions): Promise<Replica> {
  await mkdir(options.directory, { recursive: true })
  const directory = await mkdtemp(join(options.directory, 'replica-'))
  const configPath = join(directory, 'config.yaml')
  // JSON is YAML.
  await writeFile(configPath, JSON.stringify(configOf(options, directory), null, 2))
  const serve = ['serve', '--config', configPath, '--host', '127.0.0.1', '--port', '0']
  const startedAt = performance.now()
  const child = await startChild({
    name: 'adapter',
    command: process.execPath,
    args: [
      ...(options.inspectable === true ? INSPECTABLE : []),
      ...(options.nodeArgs ?? []),
      options.entry ?? BUILT_ENTRY,
      ...serve,
    ],
    readyPattern: /listening on \S*?:(\d+)/,
  })
  const baseUrl = `http://127.0.0.1:${child.ready[1] ?? ''}`
  await untilReady(baseUrl)
  const readyInMs = performance.now() - startedAt
  const targetOf = (serverId: string): Target => ({
    url: `${baseUrl}/mcp/${serverId}`,
    headers: { 'x-mcp-adapter-auth-token': TOKEN },
  })
  return {
    pid: child.pid,
    target: targetOf(SERVER_ID),
    targetOf,
    baseUrl,
    readyInMs,
    keptBytes: async () => {
      const inspectorUrl = /ws:\/\/\S+/.exec(child.errorText())?.[0]
      if (inspectorUrl === undefined) throw new Error('the replica is not inspectable')
      await collectGarbage(inspectorUrl)
      return settledResidentBytes(child.pid, SETTLE_MS)
    },
    stop: async () => {
      await child.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

async function untilReady(baseUrl: string): Promise<void> {
  const deadline = performance.now() + 10_000
  while (performance.now() < deadline) {
    // oxlint-disable-next-line no-await-in-loop -- asks until it is ready
    if ((await fetch(`${baseUrl}/readyz`)).status === 200) return
    // oxlint-disable-next-line no-await-in-loop
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error('the adapter listens but does not become ready')
}

function configOf(options: ReplicaOptions, directory: string): object {
  const plain = Object.entries(options.servers ?? {}).map(([id, url]) => serverOf(id, url))
  return {
    core: {
      log_level: 'warning',
      allow_artifacts_download: true,
      auth: {
        enabled: true,
        token: TOKEN,
        signing_secret: 'bench-signing-secret',
        signed_upload_ttl_seconds: 600,
      },
    },
    ...(options.telemetry && { telemetry: options.telemetry }),
    state_persistence: options.state ?? { type: 'disk' },
    storage: { root: join(directory, 'data'), max_size: '100Gi' },
    sessions: {
      max_active: 100_000,
      max_in_flight_per_session:
        options.inFlightLimit === undefined ? 1_000 : options.inFlightLimit,
      idle_ttl_seconds: 3_600,
      max_total_session_size: '50Gi',
    },
    uploads: { max_file_bytes: '2Gi', ttl_seconds: 3_600 },
    artifacts: { ttl_seconds: 3_600, max_per_session: 1_000_000 },
    servers: [{ ...serverOf(SERVER_ID, options.upstreamUrl), adapters: ADAPTERS }, ...plain],
  }
}

function serverOf(id: string, url: string): object {
  return { id, mount_path: `/mcp/${id}`, upstream: { url } }
}

const ADAPTERS = [
  { type: 'upload_consumer', tools: ['consume', 'convert'], file_path_argument: 'input' },
  {
    type: 'artifact_producer',
    tools: ['produce', 'convert', 'copy_big'],
    output_path_argument: 'output',
  },
]
