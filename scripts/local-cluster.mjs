// Several replicas that are one adapter, on this machine: Redis, replicas on a shared folder, HAProxy in front, the example upstream behind.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { Member } from './member.mjs'
import { freePort, isReady, startAdapter, startReportServer, startService } from './services.mjs'
import { projectRoot } from './setup.mjs'

const PROXY_TEMPLATE = 'examples/haproxy.cfg'
const REPLICA_SETTINGS = 'examples/cluster.yaml'

/** See the file comment. Everything is started by `start` and ended by `stop`, whatever went wrong between. */
export class LocalCluster {
  #options
  #members
  #ports = []
  #redisPort
  #upstreamPort

  constructor(options) {
    this.#options = options
  }

  async start(signal) {
    const { count, folder } = this.#options
    for (const path of [this.#filesFolder, join(folder, 'redis')]) {
      await mkdir(path, { recursive: true })
    }
    this.#redisPort = await freePort()
    this.#upstreamPort = await freePort()
    for (let index = 0; index < count; index++) this.#ports.push(await freePort())
    const redis = new Member('Redis', (stop) => this.#startRedis(stop))
    const upstream = new Member('The report server', (stop) =>
      startReportServer({ port: this.#upstreamPort, filesFolder: this.#filesFolder, signal: stop }),
    )
    const replicas = this.#ports.map(
      (_port, index) =>
        new Member(`Replica ${index + 1}`, (stop) => this.#startReplica(index, stop)),
    )
    const proxy = new Member('HAProxy', (stop) => this.#startProxy(stop))
    this.#members = { redis, upstream, replicas, proxy }
    await Promise.all([redis.start(signal), upstream.start(signal)])
    await Promise.all(replicas.map((replica) => replica.start(signal)))
    await proxy.start(signal)
  }

  #startRedis(signal) {
    const { programs, folder } = this.#options
    // What it acknowledged survives its own death.
    const durable = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always']
    const port = String(this.#redisPort)
    return startService({
      name: 'Redis',
      command: programs[0],
      args: ['--bind', '127.0.0.1', '--port', port, '--dir', join(folder, 'redis'), ...durable],
      ready: /Ready to accept connections/,
      quiet: true,
      signal,
    })
  }

  async #startReplica(index, signal) {
    const { service } = await startAdapter({
      name: `replica ${index + 1}`,
      config: REPLICA_SETTINGS,
      port: this.#ports[index],
      env: {
        ADAPTER_DATA: this.sharedFolder,
        PUBLIC_BASE_URL: this.url,
        REDIS_PORT: String(this.#redisPort),
        REPORT_SERVER_PORT: String(this.#upstreamPort),
      },
      signal,
    })
    return service
  }

  async #startProxy(signal) {
    const { programs, folder, port } = this.#options
    const config = join(folder, 'haproxy.cfg')
    await writeFile(config, await proxyConfig(port, this.#ports))
    const service = await startService({
      name: 'HAProxy',
      command: programs[1],
      args: ['-db', '-f', config],
      // It says nothing when it is ready: whether it serves is asked below.
      ready: /^/,
      signal,
    })
    try {
      await service.until(async () => ((await isReady(this.url)) ? true : undefined), signal)
    } catch (error) {
      await service.stop()
      throw error
    }
    return service
  }

  get #filesFolder() {
    return join(this.sharedFolder, 'sessions')
  }

  /** The one URL. */
  get url() {
    return `http://127.0.0.1:${this.#options.port}`
  }

  /** Resolves with undefined when the signal came, else with what could not be started again. */
  async untilStopped(signal) {
    const { redis, upstream, replicas, proxy } = this.#members
    const stopped = new Promise((settle) => {
      if (signal.aborted) settle(undefined)
      else signal.addEventListener('abort', () => settle(undefined), { once: true })
    })
    const failures = [redis, upstream, ...replicas, proxy].map((member) =>
      member.failed.then(
        () => stopped,
        (error) => error.message,
      ),
    )
    return Promise.race([stopped, ...failures])
  }

  /** What runs: name, address, process id and settings of each, from the front to the back. */
  parts() {
    const { redis, upstream, replicas, proxy } = this.#members
    return [
      ['HAProxy', this.url, proxy.pid, PROXY_TEMPLATE],
      ...replicas.map((replica, index) => [
        `replica ${index + 1}`,
        `http://127.0.0.1:${this.#ports[index]}`,
        replica.pid,
        REPLICA_SETTINGS,
      ]),
      ['Redis', `127.0.0.1:${this.#redisPort}`, redis.pid, ''],
      ['report server', `http://127.0.0.1:${this.#upstreamPort}/mcp`, upstream.pid, ''],
    ]
  }

  /** What all replicas and the upstream see. */
  get sharedFolder() {
    return join(this.#options.folder, 'shared')
  }

  /** From the front to the back, so that nobody misses what it needs for its own stop. */
  async stop() {
    if (this.#members === undefined) return
    const { redis, upstream, replicas, proxy } = this.#members
    await proxy.stop()
    await Promise.all(replicas.map((replica) => replica.stop()))
    await upstream.stop()
    await redis.stop()
  }
}

/** The template with our addresses in place of its own. */
async function proxyConfig(port, replicaPorts) {
  const template = await readFile(join(projectRoot, PROXY_TEMPLATE), 'utf8')
  const servers = replicaPorts.map(
    (replicaPort, index) => `  server replica-${index + 1} 127.0.0.1:${replicaPort} check\n`,
  )
  return `${template
    .replace(/^ *server .*\n/gm, '')
    .replace(/^ *bind .*$/m, `  bind 127.0.0.1:${port}`)
    .trimEnd()}\n${servers.join('')}`
}
