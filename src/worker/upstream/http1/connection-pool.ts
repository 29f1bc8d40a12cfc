/** The connections to one upstream: the one used last is used first, so that the rest can go. */
import { AdapterError } from '../../../shared/errors.ts'
import { Connection } from './connection.ts'
import type { ConnectionOwner } from './connection.ts'
import type { Connector } from './connector.ts'
import type { HeaderNames } from './header-names.ts'
import type { CallOwner, Http1Call } from './http1-call.ts'

/** Calls that may wait when all connections are taken. Each also has its exchange's time limit. */
const MAX_WAITING = 1_024

/** How often idle connections are looked through; none is used after its time, whenever that is. */
const SWEEP_MS = 1_000

/** Before a connection that could not be made is tried once more. */
const RETRY_AFTER_MS = 100

/** What a pool is made of. */
export interface ConnectionPoolOptions {
  readonly connector: Connector
  readonly names: HeaderNames
  /** Connections at a time; null for no limit. */
  readonly maxConnections: number | null
  readonly connectTimeoutMs: number
  /** As of an `Http1Client`. */
  readonly settledMs: number
}

/** See the file comment. */
export class ConnectionPool implements ConnectionOwner, CallOwner {
  readonly #options: ConnectionPoolOptions
  readonly #maxConnections: number
  readonly #connections = new Set<Connection>()
  /** Oldest first. */
  #idle: Connection[] = []
  /** In order of arrival. */
  readonly #waiting = new Set<Http1Call>()
  /** Calls that are about to be tried once more. */
  readonly #delayed = new Map<Http1Call, NodeJS.Timeout>()
  #sweepTimer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: ConnectionPoolOptions) {
    this.#options = options
    this.#maxConnections = options.maxConnections ?? Infinity
  }

  /** How many connections there are, idle ones included, and how many calls wait for one. */
  get size(): { readonly connections: number; readonly idle: number; readonly waiting: number } {
    return {
      connections: this.#connections.size,
      idle: this.#idle.length,
      waiting: this.#waiting.size + this.#delayed.size,
    }
  }

  /** Sends a call as soon as a connection is there for it. Fails it with ADAPTER_OVERLOADED when too many wait already. */
  send(call: Http1Call): void {
    const connection = this.#takeIdle()
    if (connection !== undefined) connection.carry(call, this.#options.settledMs)
    else this.#openFor(call)
  }

  /** Closes all connections and fails all calls with ADAPTER_STOPPING. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#sweepTimer)
    this.#sweepTimer = undefined
    const waiting = [...this.#waiting, ...this.#delayed.keys()]
    this.#waiting.clear()
    for (const timer of this.#delayed.values()) clearTimeout(timer)
    this.#delayed.clear()
    for (const call of waiting) call.fail(stopping())
    for (const connection of this.#connections) connection.destroy(stopping())
  }

  released(connection: Connection): void {
    const [next] = this.#waiting
    if (next !== undefined) {
      this.#waiting.delete(next)
      connection.carry(next, this.#options.settledMs)
      return
    }
    this.#idle.push(connection)
    this.#sweepTimer ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
  }

  closing(connection: Connection): void {
    this.#connections.delete(connection)
    const index = this.#idle.lastIndexOf(connection)
    if (index !== -1) this.#idle.splice(index, 1)
  }

  closed(): void {
    const [next] = this.#waiting
    if (next === undefined || this.#isClosed || this.#connections.size >= this.#maxConnections)
      return
    this.#waiting.delete(next)
    this.#open(next)
  }

  withdraw(call: Http1Call): void {
    this.#waiting.delete(call)
    clearTimeout(this.#delayed.get(call))
    this.#delayed.delete(call)
  }

  resend(call: Http1Call): void {
    // The connection that broke has left its place.
    this.#openFor(call)
  }

  resendSoon(call: Http1Call): void {
    const timer = setTimeout(() => {
      this.#delayed.delete(call)
      this.send(call)
    }, RETRY_AFTER_MS)
    this.#delayed.set(call, timer)
  }

  #openFor(call: Http1Call): void {
    if (this.#isClosed) call.failSoon(stopping())
    else if (this.#connections.size < this.#maxConnections) this.#open(call)
    else if (this.#waiting.size < MAX_WAITING) this.#waiting.add(call)
    else
      call.failSoon(
        new AdapterError(
          'ADAPTER_OVERLOADED',
          `all ${this.#maxConnections} connections to the upstream server are busy, and ${MAX_WAITING} requests wait for one`,
        ),
      )
  }

  #open(call: Http1Call): void {
    const { connector, names, connectTimeoutMs } = this.#options
    this.#connections.add(new Connection(connector, names, connectTimeoutMs, this, call))
  }

  #takeIdle(): Connection | undefined {
    const nowMs = performance.now()
    for (;;) {
      const connection = this.#idle.pop()
      if (connection === undefined || connection.isUsable(nowMs)) return connection
      connection.abort()
    }
  }

  #sweep(): void {
    const nowMs = performance.now()
    for (const connection of this.#idle.filter((idle) => !idle.isUsable(nowMs))) connection.abort()
    if (this.#idle.length === 0) {
      clearInterval(this.#sweepTimer)
      this.#sweepTimer = undefined
    }
  }
}

function stopping(): AdapterError {
  return new AdapterError(
    'ADAPTER_STOPPING',
    'the connections to the upstream server are being closed',
  )
}
