/** Several replicas on one Redis and one shared directory, as processes of their own, with HAProxy in front where a test asks for it. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Test } from 'tap'

import { startProxy } from './cluster-proxy.ts'
import type { Proxy } from './cluster-proxy.ts'
import { freePort, startRedis } from './redis.ts'
import type { RedisServer } from './redis.ts'
import { startReplica } from './replica.ts'
import type { Replica } from './replica.ts'

/** What a cluster is made of. Its replicas have the same configuration, but for the port. */
export interface ClusterOptions {
  /** How many; default 3. */
  readonly replicas?: number
  readonly servers: (root: string) => readonly object[]
  /** The storage root that all share, where somebody has to know it before; a temporary directory otherwise. */
  readonly root?: string
  /** Merged into the section `core`, for example `pre_drain_seconds`, which is 0 here where it is not given. */
  readonly core?: object
  /** Further sections. `state_persistence` is merged with the one that names the Redis server, `storage` with the one that names the root. */
  readonly sections?: {
    readonly state_persistence?: object
    readonly storage?: object
    readonly [section: string]: unknown
  }
  /** HAProxy in front; `url` is its address then. Default false. */
  readonly withProxy?: boolean
  /** More of the command line of redis-server. */
  readonly redisArgs?: readonly string[]
  /** A Redis that runs already, or something in front of one. */
  readonly redisPort?: number
  /** Environment of one replica. */
  readonly env?: (index: number) => Readonly<Record<string, string>>
}

/** See the file comment. Ended when the test ends. */
export interface Cluster {
  /** Where clients connect: HAProxy, or the first replica where there is none. */
  readonly url: string
  readonly replicas: readonly ClusterReplica[]
  /** Throws when the Redis server is not the cluster's own. */
  readonly redis: RedisServer
  readonly proxy: Proxy | undefined
  /** The storage root that all share. */
  readonly root: string
  /** What all replicas logged, of all their lives. */
  logs(): string
}

/** One place of the cluster, on the same port from one process to the next. */
export interface ClusterReplica {
  readonly index: number
  readonly url: string
  readonly port: number
  /** Of the present process. */
  readonly pid: number
  /** What its processes wrote on both outputs. */
  logs(): string
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
  /** SIGSTOP. */
  pause(): void
  /** SIGCONT. */
  resume(): void
  /** Starts a process in place of the one that ended; resolves when it is ready. */
  start(): Promise<void>
  /** SIGTERM, and a new process; resolves when that one is ready. */
  restart(): Promise<void>
}

/** Starts a cluster; resolves when every replica is ready, and HAProxy says so of each. */
export async function startCluster(t: Test, options: ClusterOptions): Promise<Cluster> {
  const directory = await mkdtemp(join(tmpdir(), 'adapter-cluster-'))
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const root = options.root ?? join(directory, 'shared')
  await mkdir(root, { recursive: true })
  const redis =
    options.redisPort === undefined
      ? await startRedis(t, { args: options.redisArgs ?? [] })
      : undefined
  const places = await Promise.all(
    Array.from({ length: options.replicas ?? 3 }, async (_, index) => ({
      index,
      port: await freePort(),
      directory: join(directory, `replica-${index + 1}`),
    })),
  )
  const proxyPort = options.withProxy === true ? await freePort() : undefined
  const url = `http://127.0.0.1:${proxyPort ?? places[0]?.port}`
  const config = clusterConfig(options, {
    root,
    url,
    redisPort: options.redisPort ?? redis?.port ?? 0,
  })
  const replicas = places.map(
    (place) => new Place(place.index, place.port, place.directory, config, options.env),
  )
  t.teardown(async () => {
    if (!t.passing()) t.comment(replicas.map((replica) => replica.logs()).join('\n'))
    await Promise.all(replicas.map((replica) => replica.end()))
  })
  await Promise.all(replicas.map((replica) => replica.start()))
  const proxy =
    proxyPort === undefined
      ? undefined
      : await startProxy(
          t,
          proxyPort,
          replicas.map((replica) => replica.port),
        )
  return {
    url,
    replicas,
    get redis() {
      if (redis === undefined) throw new Error('the Redis server belongs to the test')
      return redis
    },
    proxy,
    root,
    logs: () => replicas.map((replica) => replica.logs()).join('\n'),
  }
}

function clusterConfig(
  options: ClusterOptions,
  { root, url, redisPort }: { root: string; url: string; redisPort: number },
): Readonly<Record<string, unknown>> {
  const { storage = {}, state_persistence: state = {}, ...sections } = options.sections ?? {}
  return {
    core: {
      workers: 1,
      public_base_url: url,
      allow_artifacts_download: true,
      pre_drain_seconds: 0,
      ...options.core,
    },
    storage: { root, ...storage },
    state_persistence: {
      type: 'redis',
      redis: { host: '127.0.0.1', port: redisPort },
      ...state,
    },
    ...sections,
    servers: options.servers(root),
  }
}

class Place implements ClusterReplica {
  readonly index: number
  readonly port: number
  readonly #directory: string
  readonly #config: Readonly<Record<string, unknown>>
  readonly #env: ClusterOptions['env']
  #process: Replica | undefined
  #earlierLogs = ''

  constructor(
    index: number,
    port: number,
    directory: string,
    config: Readonly<Record<string, unknown>>,
    env: ClusterOptions['env'],
  ) {
    this.index = index
    this.port = port
    this.#directory = directory
    this.#config = config
    this.#env = env
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get pid(): number {
    return this.#running().pid
  }

  logs(): string {
    return this.#earlierLogs + (this.#process?.logs() ?? '')
  }

  stop(): Promise<number | null> {
    return this.#running().stop()
  }

  kill(): Promise<void> {
    return this.#running().kill()
  }

  pause(): void {
    process.kill(this.pid, 'SIGSTOP')
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT')
  }

  async start(): Promise<void> {
    this.#earlierLogs = this.logs()
    this.#process = undefined
    await mkdir(this.#directory, { recursive: true })
    this.#process = await startReplica({
      config: this.#config,
      directory: this.#directory,
      port: this.port,
      ...(this.#env === undefined ? {} : { env: this.#env(this.index) }),
    })
  }

  async restart(): Promise<void> {
    const code = await this.stop()
    if (code !== 0) throw new Error(`replica ${this.index + 1} ended with ${code}:\n${this.logs()}`)
    await this.start()
  }

  /** Whatever state it is in. */
  async end(): Promise<void> {
    await this.#process?.kill()
  }

  #running(): Replica {
    if (this.#process === undefined) throw new Error(`replica ${this.index + 1} does not run`)
    return this.#process
  }
}
