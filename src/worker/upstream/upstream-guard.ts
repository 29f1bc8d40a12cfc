/** Puts each upstream behind its breaker and limit, and has them pinged: what one worker does about upstreams that fail. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import type { ServerVitals } from '../../shared/upstream-vitals.ts'
import { UpstreamVitals } from '../../shared/upstream-vitals.ts'
import { Breaker } from './breaker.ts'
import type { UpstreamEvents } from './breaker.ts'
import { GuardedUpstream } from './guarded-upstream.ts'
import { ping } from './ping.ts'
import type { PingedUpstream } from './ping.ts'
import { Pinger } from './pinger.ts'
import type { PingTarget } from './pinger.ts'
import type { Upstream } from './upstream.ts'

/** What a guard is made of. */
export interface UpstreamGuardOptions {
  readonly config: Pick<Config, 'core' | 'servers'>
  /** Which of `workers` this is. */
  readonly worker: number
  readonly workers: number
  /** That of the replica's `UpstreamVitals`. */
  readonly memory: SharedArrayBuffer
  /** Whether the replica starts: only then are upstreams waited for. */
  readonly isStart: boolean
  readonly log: Log
  /** Hears of each server's upstream what happens in this worker. */
  readonly eventsOf?: (server: ServerConfig) => UpstreamEvents
}

/** See the file comment. One per worker. */
export class UpstreamGuard {
  readonly #options: UpstreamGuardOptions
  readonly #vitals: UpstreamVitals
  readonly #targets: PingTarget[] = []
  #pinger: Pinger | undefined
  #isStopped = false

  constructor(options: UpstreamGuardOptions) {
    const { config, workers, memory } = options
    this.#options = options
    this.#vitals = new UpstreamVitals({ servers: config.servers.length, workers }, memory)
  }

  /** The upstream as everybody is to use it; `index` is that of the server in `config.servers`. Before `start`. */
  guard(server: ServerConfig, index: number, upstream: Upstream): Upstream {
    const { worker, config, isStart } = this.#options
    const { upstreamPing, toolCallTimeoutSeconds } = server
    const { maxInFlight, connectTimeoutSeconds } = server.upstream
    const vitals = this.#vitals.server(index)
    vitals.resetWorker(worker)
    const timeoutMs = upstreamPing.timeoutSeconds * 1_000
    const callTimeoutMs = toolCallTimeoutSeconds === null ? null : toolCallTimeoutSeconds * 1_000
    const ask = askerOf(upstream, timeoutMs)
    const breaker: Breaker = new Breaker({
      vitals,
      worker,
      policy: upstreamPing.enabled ? upstreamPing : null,
      ask: ask && (() => this.#ping({ breaker, callTimeoutMs }, ask)),
      events: this.#events(server, vitals),
    })
    const isAwaited = isStart && config.core.maxStartWaitSeconds > 0
    if (upstreamPing.enabled || isAwaited) {
      this.#targets.push({
        upstream,
        breaker,
        intervalMs: upstreamPing.enabled ? upstreamPing.intervalSeconds * 1_000 : null,
        timeoutMs,
        callTimeoutMs,
      })
    }
    // What is off costs nothing.
    if (!upstreamPing.enabled && maxInFlight === null) return upstream
    return new GuardedUpstream({
      upstream,
      breaker,
      maxInFlight,
      connectTimeoutMs: connectTimeoutSeconds * 1_000,
    })
  }

  /** Begins to ping, in the one worker that does. Call it before requests are taken: from then on it is known who is waited for. */
  start(): void {
    const { worker, isStart, config } = this.#options
    if (worker !== 0) return
    this.#pinger = new Pinger(this.#targets, isStart ? config.core.maxStartWaitSeconds * 1_000 : 0)
    this.#pinger.start()
  }

  stop(): void {
    this.#isStopped = true
    this.#pinger?.stop()
  }

  /** Out of turn. */
  #ping(target: PingedUpstream, ask: () => Promise<void>): Promise<void> {
    const isStopped = (): boolean => this.#isStopped
    return ping(target, { ask, isStart: false, isDue: () => true, isStopped })
  }

  #events(server: ServerConfig, vitals: ServerVitals): UpstreamEvents {
    const { log, eventsOf } = this.#options
    const events = eventsOf?.(server)
    return {
      ...events,
      onTransition: (from, to, reason) => {
        const { lastFailure } = vitals.report()
        const fields = {
          server: server.id,
          from,
          to,
          lastFailure,
          ...(reason === undefined ? {} : { reason }),
        }
        if (to === 'open') log.warn(fields, 'the upstream fails: new requests are refused for now')
        else if (to === 'closed') log.info(fields, 'the upstream is back in service')
        else log.info(fields, 'the upstream is tried by a few requests')
        events?.onTransition?.(from, to, reason)
      },
    }
  }
}

/** How an upstream is asked itself; undefined where that can't be. */
function askerOf(upstream: Upstream, timeoutMs: number): (() => Promise<void>) | undefined {
  if (upstream.probe === undefined && upstream.trial === undefined) return undefined
  return async () => upstream.probe?.(timeoutMs) ?? upstream.trial?.(timeoutMs)
}
