/**
 * Opens connections to Redis: a single server, one that Sentinels name, or a Cluster. They fail fast (nothing is queued while there is no connection,
 * and every command has a time limit) and connect again by themselves for ever.
 */
import { Cluster, Redis } from 'ioredis'
import type { RedisOptions } from 'ioredis'

/** Longest pause between two attempts to connect, in milliseconds: what comes back is used within about a second. */
const MAX_BACKOFF_MS = 1_000
const MIN_BACKOFF_MS = 50
/** How long a connection that is given up may take to say goodbye, in milliseconds; one that is stuck never does. */
const DISCONNECT_TIMEOUT_MS = 200
/** Idle time before the kernel asks whether the other end is still there, in milliseconds. */
const KEEP_ALIVE_MS = 10_000

/** The address of a server, a Sentinel or a member of a Cluster. */
export interface RedisNode {
  readonly host: string
  readonly port: number
}

/** How connections are encrypted. The files are read already: PEM texts, null for those not given. */
export interface RedisTls {
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
  /** The name that the certificate must be for; null for the host that is connected to. */
  readonly serverName: string | null
  /** Whether a certificate that can't be verified is refused. */
  readonly verify: boolean
}

/** Where Redis is. */
export type RedisTarget =
  | { readonly kind: 'single'; readonly node: RedisNode }
  | {
      readonly kind: 'sentinel'
      readonly masterName: string
      readonly nodes: readonly RedisNode[]
      readonly username: string | null
      readonly password: string | null
    }
  | { readonly kind: 'cluster'; readonly nodes: readonly RedisNode[] }

/** How to reach Redis. Plain data: it crosses to the thread that uses it. Holds secrets. */
export interface RedisConnectionOptions {
  readonly target: RedisTarget
  readonly db: number
  readonly username: string | null
  readonly password: string | null
  readonly tls: RedisTls | null
  readonly commandTimeoutMs: number
  readonly connectTimeoutMs: number
}

/** The library's options without one that has no meaning in the protocol that is spoken here. */
type ServerOptions = Omit<RedisOptions, 'replyMapping'>

/** What commands are sent through. */
export type RedisClient = Redis | Cluster

/** Opens what commands go through. Connects in the background; commands reject until that is done. Errors of the connection go to `onError`. */
export function openCommands(
  options: RedisConnectionOptions,
  onError: (error: Error) => void,
): RedisClient {
  const client =
    options.target.kind === 'cluster'
      ? openCluster(options, options.target.nodes)
      : new Redis({ ...serverOptions(options), retryStrategy: backoff, reconnectOnError })
  // Without a listener each failed attempt to connect would be printed.
  client.on('error', onError)
  return client
}

/**
 * Opens one connection for messages that are published, and does not open it again when it ends: whoever listens must know. `attempt` grows with
 * each call, so that another member of a Cluster is tried each time; every member passes all messages on.
 */
export function openSubscriber(options: RedisConnectionOptions, attempt: number): Redis {
  const { target } = options
  const node = target.kind === 'cluster' ? target.nodes[attempt % target.nodes.length] : undefined
  return new Redis({
    ...serverOptions(options),
    ...node,
    retryStrategy: () => null,
    autoResubscribe: false,
  })
}

function openCluster(options: RedisConnectionOptions, nodes: readonly RedisNode[]): Cluster {
  const cluster = new Cluster([...nodes], clusterOptions(options))
  // At once, not with the first command: those that follow that one would be refused while the connection is being made.
  cluster.on('+node', (node: Redis) => {
    if (node.status === 'wait') node.connect().catch(ignore)
  })
  return cluster
}

/** Milliseconds to wait before the next attempt. Spread, so that all replicas don't come at the same moment. */
export function backoff(attempts: number): number {
  const most = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(attempts - 1, 10))
  return Math.ceil(most * (0.5 + Math.random() / 2))
}

/** True where the server that answers is not the one to write to: after a fail-over the old master is a follower. */
function reconnectOnError({ message }: Error): boolean {
  return message.startsWith('READONLY') || message.startsWith('MASTERDOWN')
}

function serverOptions(options: RedisConnectionOptions): ServerOptions {
  const { target, tls, commandTimeoutMs, connectTimeoutMs } = options
  const secure = tls === null ? undefined : tlsOptions(tls)
  return {
    ...(target.kind === 'single' ? target.node : {}),
    ...(target.kind === 'sentinel' ? sentinelOptions(target, options) : {}),
    ...(secure === undefined ? {} : { tls: secure }),
    ...(secure !== undefined && target.kind === 'sentinel'
      ? { sentinelTLS: secure, enableTLSForSentinelMode: true }
      : {}),
    ...credentials(options),
    db: options.db,
    // What is understood by every server and by what people put in front of them.
    protocol: 2,
    connectTimeout: connectTimeoutMs,
    commandTimeout: commandTimeoutMs,
    // A command that was sent may have been executed: it is never sent again.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    disconnectTimeout: DISCONNECT_TIMEOUT_MS,
    keepAlive: KEEP_ALIVE_MS,
    disableClientInfo: true,
    connectionName: 'remote-mcp-adapter',
  }
}

function sentinelOptions(
  target: Extract<RedisTarget, { kind: 'sentinel' }>,
  { commandTimeoutMs }: RedisConnectionOptions,
): ServerOptions {
  return {
    sentinels: [...target.nodes],
    name: target.masterName,
    ...(target.username === null ? {} : { sentinelUsername: target.username }),
    ...(target.password === null ? {} : { sentinelPassword: target.password }),
    sentinelRetryStrategy: backoff,
    sentinelReconnectStrategy: backoff,
    sentinelCommandTimeout: commandTimeoutMs,
    // Hears of a fail-over from the Sentinels, also while the old master still answers.
    failoverDetector: true,
  }
}

function clusterOptions(options: RedisConnectionOptions) {
  const { db: _db, enableOfflineQueue: _queue, ...redisOptions } = serverOptions(options)
  return {
    redisOptions,
    clusterRetryStrategy: backoff,
    enableOfflineQueue: false,
    // It would ask a member at the moment at which the connection to it is being made, and be refused.
    enableReadyCheck: false,
    // Not sent again: see autoResendUnfulfilledCommands. What was moved elsewhere was not executed and is.
    retryDelayOnFailover: 0,
    slotsRefreshTimeout: options.commandTimeoutMs,
    ...(options.tls === null ? {} : { dnsLookup: keepName }),
  }
}

/** Certificates are for names: they must not be replaced by addresses before the connection is made. */
function keepName(address: string, done: (error: null, address: string) => void): void {
  done(null, address)
}

function credentials({ username, password }: RedisConnectionOptions): ServerOptions {
  return {
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
  }
}

function tlsOptions({ ca, cert, key, serverName, verify }: RedisTls) {
  return {
    ...(ca === null ? {} : { ca }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
    ...(serverName === null ? {} : { servername: serverName }),
    rejectUnauthorized: verify,
  }
}

function ignore(): void {}
