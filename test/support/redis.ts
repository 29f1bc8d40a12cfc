/** Real `redis-server` processes for tests: each on a free port with a directory of its own, ended when the test ends. */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import type { Test } from 'tap'

import { eventually, within } from './eventually.ts'

/** How a server is started. */
export interface RedisOptions {
  /** A free one when absent. */
  readonly port?: number
  /** More of the command line, for example `['--requirepass', 'secret']` or `['--appendonly', 'yes']`. Without any, nothing is persistent. */
  readonly args?: readonly string[]
  /** PEM files. With them the port speaks TLS only. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly caFile: string }
  /** Started as a sentinel, with this text as its configuration. */
  readonly sentinelConfig?: string
}

/** A running server. Every method resolves when what it says has happened. */
export interface RedisServer {
  readonly port: number
  /** `redis://127.0.0.1:<port>`, or `rediss://…` with TLS. */
  readonly url: string
  /** Of the present process; -1 while there is none. */
  readonly pid: number
  /** Its working directory; what it persists is here. */
  readonly directory: string
  /** SIGTERM, and SIGKILL when that is not enough. Harmless when it is gone. */
  stop(): Promise<void>
  /** SIGKILL. */
  kill(): Promise<void>
  /** SIGSTOP: connections stay open and nothing is answered. */
  pause(): void
  /** SIGCONT. */
  resume(): void
  /** Ends it when it runs and starts it on the same port: empty, unless `keepData` is set and its arguments made it persistent. */
  restart(options?: { readonly keepData?: boolean }): Promise<void>
}

const READY = /Ready to accept connections|\+monitor master/
const START_LIMIT_MS = 10_000
const STOP_LIMIT_MS = 3_000
const PORT_ATTEMPTS = 5
const SENTINEL_FILE = 'sentinel.conf'

/** Starts a server and ends it when `t` ends. Rejects with its output when it does not come up. */
export async function startRedis(t: Test, options: RedisOptions = {}): Promise<RedisServer> {
  const server = await launchRedis(options)
  t.teardown(async () => {
    await server.kill()
    await rm(server.directory, { recursive: true, force: true })
  })
  return server
}

/** The same without a test: whoever calls it kills it and removes its directory. */
export async function launchRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'redis-test-'))
  for (let attempt = 1; ; attempt++) {
    const server = new LocalRedis(options.port ?? (await freePort()), directory, options)
    try {
      await server.start()
      return server
    } catch (error) {
      // Somebody else may have taken the port that was free a moment ago.
      const isTaken = String(error).includes('Address already in use')
      if (options.port === undefined && isTaken && attempt < PORT_ATTEMPTS) continue
      await rm(directory, { recursive: true, force: true })
      throw error
    }
  }
}

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

class LocalRedis implements RedisServer {
  readonly port: number
  readonly directory: string
  readonly #options: RedisOptions
  #child: ChildProcess | undefined
  #exited: Promise<void> = Promise.resolve()
  #output = ''

  constructor(port: number, directory: string, options: RedisOptions) {
    this.port = port
    this.directory = directory
    this.#options = options
  }

  get url(): string {
    return `${this.#options.tls === undefined ? 'redis' : 'rediss'}://127.0.0.1:${this.port}`
  }

  get pid(): number {
    return this.#child?.pid ?? -1
  }

  async start(): Promise<void> {
    this.#output = ''
    const { sentinelConfig } = this.#options
    if (sentinelConfig !== undefined) {
      await writeFile(join(this.directory, SENTINEL_FILE), sentinelConfig)
    }
    const child = spawn('redis-server', this.#arguments(), {
      cwd: this.directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    this.#exited = new Promise((resolve) => {
      const ended = (): void => {
        if (this.#child === child) this.#child = undefined
        resolve()
      }
      child.once('exit', ended)
      child.once('error', ended)
    })
    const ready = new Promise<void>((resolve, reject) => {
      const take = (chunk: Buffer): void => {
        this.#output += chunk.toString('utf8')
        if (READY.test(this.#output)) resolve()
      }
      child.stdout.on('data', take)
      child.stderr.on('data', take)
      child.once('error', (error) => reject(error))
      child.once('exit', (code) => {
        reject(new Error(`redis-server ended with ${code}:\n${this.#output}`))
      })
    })
    try {
      await within('redis-server accepts connections', ready, START_LIMIT_MS)
    } catch (error) {
      await this.kill()
      throw error
    }
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    child.kill('SIGCONT')
    child.kill('SIGTERM')
    await within('redis-server stops', this.#exited, STOP_LIMIT_MS).catch(() => this.kill())
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#exited
  }

  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  async restart({ keepData = false }: { readonly keepData?: boolean } = {}): Promise<void> {
    if (keepData) await this.stop()
    await this.kill()
    if (!keepData) {
      await rm(this.directory, { recursive: true, force: true })
      await mkdir(this.directory)
    }
    await this.start()
  }

  #arguments(): string[] {
    const { tls, args = [], sentinelConfig } = this.#options
    const port = String(this.port)
    const listen =
      tls === undefined
        ? ['--port', port]
        : ['--port', '0', '--tls-port', port, ...tlsArguments(tls)]
    const common = ['--bind', '127.0.0.1', '--dir', this.directory, ...listen]
    if (sentinelConfig !== undefined) {
      return [join(this.directory, SENTINEL_FILE), '--sentinel', ...common, ...args]
    }
    return [...common, '--save', '', '--appendonly', 'no', ...args]
  }
}

/** Clients may show a certificate of their own, and need not. */
function tlsArguments({ certFile, keyFile, caFile }: NonNullable<RedisOptions['tls']>): string[] {
  const files = ['--tls-cert-file', certFile, '--tls-key-file', keyFile]
  return [...files, '--tls-ca-cert-file', caFile, '--tls-auth-clients', 'optional']
}

/** A master with replicas, watched by sentinels. */
export interface RedisSentinel {
  /** What the sentinels call the master. */
  readonly name: string
  readonly sentinels: readonly RedisServer[]
  /** The first one is the master at start. */
  readonly servers: readonly RedisServer[]
  /** The server that the sentinels say is the master now. */
  master(): Promise<RedisServer>
}

/** Starts one master, `replicas` of it and `sentinels` (a majority of which decides); resolves when the sentinels know them all. */
export async function startSentinel(
  t: Test,
  {
    name = 'main',
    replicas = 1,
    sentinels = 3,
    downAfterMs = 500,
    args = [],
  }: {
    readonly name?: string
    readonly replicas?: number
    readonly sentinels?: number
    readonly downAfterMs?: number
    readonly args?: readonly string[]
  } = {},
): Promise<RedisSentinel> {
  const master = await startRedis(t, { args })
  const followers = await Promise.all(
    Array.from({ length: replicas }, () =>
      startRedis(t, { args: ['--replicaof', '127.0.0.1', String(master.port), ...args] }),
    ),
  )
  const sentinelConfig = [
    `sentinel monitor ${name} 127.0.0.1 ${master.port} ${Math.floor(sentinels / 2) + 1}`,
    `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
    `sentinel failover-timeout ${name} 3000`,
    '',
  ].join('\n')
  const watchers = await Promise.all(
    Array.from({ length: sentinels }, () => startRedis(t, { sentinelConfig })),
  )
  const servers = [master, ...followers]
  await Promise.all(
    watchers.map((watcher) =>
      eventually(
        'a sentinel knows its peers and the replicas',
        async () => {
          const state = await ask(watcher.port, 'sentinel', 'master', name)
          return (
            fieldOf(state, 'num-slaves') === String(replicas) &&
            fieldOf(state, 'num-other-sentinels') === String(sentinels - 1)
          )
        },
        20_000,
      ),
    ),
  )
  return {
    name,
    sentinels: watchers,
    servers,
    async master() {
      const alive = watchers.find(({ pid }) => pid !== -1)
      if (alive === undefined) throw new Error('no sentinel is left')
      const [, port] = await ask(alive.port, 'sentinel', 'get-master-addr-by-name', name)
      const found = servers.find((server) => String(server.port) === port)
      if (found === undefined) throw new Error(`no server has port ${String(port)}`)
      return found
    },
  }
}

/** Starts a Redis Cluster of masters that share the slots evenly; resolves when each of them says that the cluster is complete. */
export async function startRedisCluster(
  t: Test,
  nodes = 3,
  args: readonly string[] = [],
): Promise<readonly RedisServer[]> {
  const members = await Promise.all(
    Array.from({ length: nodes }, async () => {
      // By default the bus port is the port + 10000, which may not exist.
      const busPort = await freePort()
      const mode = ['--cluster-enabled', 'yes', '--cluster-port', String(busPort)]
      const limits = ['--cluster-node-timeout', '2000']
      const server = await startRedis(t, { args: [...mode, ...limits, ...args] })
      return { server, busPort }
    }),
  )
  const [first] = members
  for (const [index, { server }] of members.entries()) {
    const [from, to] = [index, index + 1].map((part) => Math.floor((part * CLUSTER_SLOTS) / nodes))
    await ask(server.port, 'cluster', 'addslotsrange', String(from), String((to ?? 0) - 1))
    await ask(server.port, 'cluster', 'set-config-epoch', String(index + 1))
    if (first === undefined || server === first.server) continue
    const address = ['127.0.0.1', String(first.server.port), String(first.busPort)]
    await ask(server.port, 'cluster', 'meet', ...address)
  }
  await Promise.all(
    members.map(({ server }) =>
      eventually(
        'a node knows the whole cluster',
        async () => {
          const info = (await ask(server.port, 'cluster', 'info')).join('\n')
          return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${nodes}`)
        },
        20_000,
      ),
    ),
  )
  return members.map(({ server }) => server)
}

const CLUSTER_SLOTS = 16_384

/** Asks by `redis-cli`, without a password and TLS; answers the lines of its raw output. */
export async function ask(port: number, ...command: readonly string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)(
    'redis-cli',
    ['-h', '127.0.0.1', '-p', String(port), ...command],
    { timeout: 5_000 },
  )
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.trimEnd())
}

/** The value after a name in a list of alternating names and values. */
function fieldOf(lines: readonly string[], name: string): string | undefined {
  const index = lines.indexOf(name)
  return index === -1 ? undefined : lines[index + 1]
}
