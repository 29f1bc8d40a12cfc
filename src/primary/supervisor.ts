/** Starts the state thread and the workers, restarts what dies with growing delays, and stops them in order. */
import { MessageChannel, Worker } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { createTallyMemory, FrameTally } from '../shared/frames/frame-tally.ts'
import type { Config } from '../shared/config/config.ts'
import { mintReplicaId, ownerOf } from '../shared/ids.ts'
import type { Log } from '../shared/log.ts'
import { RemoteStore } from '../shared/state/remote.ts'
import type { SharedStateReport } from '../shared/state/redis/shared-state.ts'
import type { StateOptions, StateThreadOptions } from '../shared/state/state-options.ts'
import type { StateThreadEvent } from '../shared/state/state-thread.ts'
import { UpstreamVitals } from '../shared/upstream-vitals.ts'
import type { MetricsDelta } from '../shared/telemetry/delta.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'
import type { CountedMessage } from '../shared/telemetry/telemetry-messages.ts'
import { reportIntervalMs } from '../shared/telemetry/telemetry-options.ts'
import type { WorkerOptions } from '../shared/worker-options.ts'
import { WorkerHandle } from './dispatch/worker-handle.ts'

const STATE_THREAD = new URL('../shared/state/state-thread.js', import.meta.url)
const WORKER_THREAD = new URL('../worker/main.js', import.meta.url)

/** Delays before a restart, in milliseconds: short at first, because most crashes are a single bad moment. */
const RESTART_DELAYS_MS = [50, 200, 1_000, 5_000]

/** A thread that has been up this long starts over with the shortest delay, in milliseconds. */
const STABLE_AFTER_MS = 30_000

/** Where what threads count goes. */
export interface CountingPorts {
  /** Of the primary. */
  readonly recorder: Recorder
  counted(source: string, delta: MetricsDelta): void
  /** The thread of that name has ended. */
  gone(source: string): void
}

/** What a supervisor is given. */
export interface SupervisorOptions {
  readonly config: Config
  readonly state: StateOptions
  readonly workers: number
  readonly signingSecrets: readonly string[]
  /** Keys for requests between replicas; none where there are no such requests. */
  readonly hopSecrets?: readonly string[]
  readonly fallbackBaseUrl: string
  readonly log: Log
  /** One that is new at every start; made here when it is left out. */
  readonly replicaId?: string
  /** Connects a worker to the export of telemetry; undefined where there is none. */
  readonly connectTelemetry?: (() => MessagePort) | undefined
  /** Entry files of the threads; by default the ones of this package. */
  readonly threads?: { readonly worker?: URL; readonly state?: URL }
  /** Hears what the state thread says of a shared store, about once a second and when something changes. */
  readonly onReport?: (report: SharedStateReport) => void
}

interface Slot {
  handle: WorkerHandle | undefined
  tally: FrameTally | undefined
  thread: Worker | undefined
  failures: number
}

/** One per replica. */
export class Supervisor {
  /** Names this process among the replicas. */
  readonly replicaId: string
  /** What workers know of the upstreams. */
  readonly vitals: UpstreamVitals
  readonly #options: SupervisorOptions
  readonly #slots: Slot[]
  /** The state thread, once it is ready. */
  #state: Worker | undefined
  /** The state thread, from its start on. */
  #stateThread: Worker | undefined
  #store: RemoteStore | undefined
  #report: SharedStateReport | undefined
  #stateFailures = 0
  #counting: CountingPorts | undefined
  #draining = false
  #stopping = false
  #nextWorker = 0
  #hopUrl: string | null = null

  constructor(options: SupervisorOptions) {
    this.#options = options
    const { config, workers } = options
    this.vitals = new UpstreamVitals({ servers: config.servers.length, workers })
    this.replicaId = options.replicaId ?? mintReplicaId()
    this.#slots = Array.from({ length: options.workers }, () => ({
      handle: undefined,
      tally: undefined,
      thread: undefined,
      failures: 0,
    }))
  }

  /**
   * Resolves when the state thread and all workers are ready; rejects with the first failure, everything ended. `hopUrl`: where other replicas reach this
   * one, where they may need to.
   */
  async start(hopUrl: string | null = null): Promise<void> {
    this.#hopUrl = hopUrl
    // All threads load at the same time; what they ask of the store waits in its port. The first worker is ready only when it has cleared up after
    // a crash, and no request comes before all are.
    const state = this.#startState(this.#options.state)
    this.#store = new RemoteStore(this.#connectStore())
    const workers = Promise.all(this.#slots.map((_slot, index) => this.#startWorker(index, true)))
    // Where both fail, the store's reason is the one to tell.
    workers.catch(() => undefined)
    await state
    await workers
  }

  /** Has threads that are started from here on count what they do. */
  countInto(counting: CountingPorts): void {
    this.#counting = counting
    const { recorder } = counting
    recorder.beforeReport(() => {
      recorder.set('adapter_workers_ready', {}, this.readyWorkers)
      for (const [index, { tally }] of this.#slots.entries()) {
        for (const direction of ['to_worker', 'to_primary'] as const) {
          const labels = { worker: String(index), direction }
          recorder.set('adapter_hop_queue_depth', labels, tally?.waiting(direction) ?? 0)
        }
      }
    })
  }

  /** The primary's own connection to the store, for health. */
  get store(): RemoteStore {
    if (this.#store === undefined) throw new Error('the supervisor is not started')
    return this.#store
  }

  /** What is known of the shared store; undefined when there is none, or nothing is known. */
  get report(): SharedStateReport | undefined {
    return this.#report
  }

  /** The worker that owns a session, or the next in turn for the empty id; undefined while it is down. */
  workerFor(sessionId: string): WorkerHandle | undefined {
    if (sessionId === '') {
      for (let tried = 0; tried < this.#slots.length; tried++) {
        this.#nextWorker = (this.#nextWorker + 1) % this.#slots.length
        const handle = this.#slots[this.#nextWorker]?.handle
        if (handle?.isReady === true) return handle
      }
      return undefined
    }
    const handle = this.#slots[ownerOf(sessionId, this.#slots.length)]?.handle
    return handle?.isReady === true ? handle : undefined
  }

  /** One worker of all; undefined while it is down. */
  workerAt(index: number): WorkerHandle | undefined {
    const handle = this.#slots[index]?.handle
    return handle?.isReady === true ? handle : undefined
  }

  /** How many workers can take requests. */
  get readyWorkers(): number {
    return this.#slots.filter((slot) => slot.handle?.isReady === true).length
  }

  get isComplete(): boolean {
    return this.readyWorkers === this.#slots.length && this.#state !== undefined
  }

  /** Has the workers close long-lived streams; also those that are started after this. */
  drainWorkers(): void {
    this.#draining = true
    for (const { handle } of this.#slots)
      if (handle?.isReady === true) handle.send(['control.drain'])
  }

  /** Connects the workers to a new export thread. */
  reconnectTelemetry(): void {
    for (const { thread } of this.#slots) {
      const port = thread === undefined ? undefined : this.#options.connectTelemetry?.()
      if (port !== undefined) thread?.postMessage({ kind: 'telemetry', port }, [port])
    }
  }

  /** Asks each worker to finish within `graceMs`; ends those that don't. */
  async stopWorkers(graceMs: number): Promise<void> {
    this.#stopping = true
    await Promise.all(
      this.#slots.map(async (slot) => {
        const { handle, thread } = slot
        if (handle === undefined || thread === undefined) return
        const exited = new Promise<void>((resolve) => thread.once('exit', () => resolve()))
        handle.send(['control.stop', graceMs])
        const limit = setTimeout(
          () => void thread.terminate(),
          graceMs + 1_000 + endOfProcessesMs(this.#options.config),
        )
        await exited
        clearTimeout(limit)
      }),
    )
  }

  /** Ends the state thread after a last write-out. Call it when the workers are gone. */
  async stopState(): Promise<void> {
    this.#stopping = true
    await this.#store?.close()
    const thread = this.#stateThread
    if (thread === undefined) return
    const exited = new Promise<void>((resolve) => thread.once('exit', () => resolve()))
    thread.postMessage({ kind: 'stop' })
    const limit = setTimeout(() => void thread.terminate(), 5_000)
    await exited
    clearTimeout(limit)
  }

  async #startState(options: StateOptions): Promise<void> {
    const workerData: StateThreadOptions = {
      ...options,
      replicaId: this.replicaId,
      hopUrl: this.#hopUrl,
      reportIntervalMs:
        this.#counting === undefined ? null : reportIntervalMs(this.#options.config),
    }
    const thread = new Worker(this.#options.threads?.state ?? STATE_THREAD, { workerData })
    this.#stateThread = thread
    thread.once('exit', () => {
      if (this.#stateThread === thread) this.#stateThread = undefined
    })
    await new Promise<void>((resolve, reject) => {
      thread.on('message', (event: StateThreadEvent) => {
        switch (event.kind) {
          case 'ready':
            resolve()
            return
          case 'failed':
            this.#options.log.error({ reason: event.message }, 'state store failed')
            reject(new Error(event.message))
            return
          case 'warning':
            this.#options.log.warn({ reason: event.message }, 'state store warns')
            return
          case 'lost':
            this.#options.log.error({ reason: event.message }, 'state store lost')
            return
          case 'recovered':
            // As loud as its loss need be to be seen by whoever saw that.
            this.#options.log.warn('state store can be reached again')
            return
          case 'report':
            this.#report = event.report
            this.#options.onReport?.(event.report)
            return
          case 'counted':
            this.#counting?.counted('state', event.delta)
        }
      })
      thread.once('error', reject)
      thread.once('exit', () => reject(new Error('the state thread ended while it was starting')))
    })
    this.#state = thread
    const startedAtMs = Date.now()
    thread.on('error', (error) => this.#options.log.error({ err: error }, 'state thread failed'))
    thread.once('exit', () => this.#stateExited(startedAtMs))
  }

  #stateExited(startedAtMs: number): void {
    this.#state = undefined
    this.#report = undefined
    this.#counting?.gone('state')
    if (this.#stopping) return
    this.#counting?.recorder.add('adapter_thread_restarts_total', { thread: 'state' })
    this.#stateFailures = Date.now() - startedAtMs > STABLE_AFTER_MS ? 0 : this.#stateFailures + 1
    this.#later(this.#stateFailures, async () => {
      await this.#startState({ ...this.#options.state, refreshOnStartup: false })
      // Everyone who held a port to the old thread gets a new one.
      this.store.reconnect(this.#connectStore())
      for (const slot of this.#slots) {
        if (slot.thread === undefined) continue
        const port = this.#connectStore()
        slot.thread.postMessage({ kind: 'store', port }, [port])
      }
    })
  }

  #connectStore(): MessagePort {
    const { port1, port2 } = new MessageChannel()
    this.#stateThread?.postMessage({ kind: 'connect', port: port2 }, [port2])
    return port1
  }

  #startWorker(index: number, firstStart: boolean): Promise<void> {
    const slot = this.#slots[index]
    if (slot === undefined) throw new RangeError(`no worker ${index}`)
    const frames = new MessageChannel()
    const tallyMemory = this.#counting === undefined ? undefined : createTallyMemory()
    const storePort = this.#connectStore()
    const { config, signingSecrets, hopSecrets = [], fallbackBaseUrl, workers, log } = this.#options
    const telemetryPort = this.#options.connectTelemetry?.()
    const workerData: WorkerOptions = {
      config,
      replicaId: this.replicaId,
      index,
      workers,
      framePort: frames.port2,
      storePort,
      vitals: this.vitals.memory,
      telemetryPort,
      signingSecrets,
      hopSecrets,
      hopUrl: this.#hopUrl,
      fallbackBaseUrl,
      maintains: index === 0,
      firstStart,
      tallyMemory,
    }
    const thread = new Worker(this.#options.threads?.worker ?? WORKER_THREAD, {
      workerData,
      transferList: [
        frames.port2,
        storePort,
        ...(telemetryPort === undefined ? [] : [telemetryPort]),
      ],
      // Descriptors of files that are being sent belong to the primary: they must outlive the worker that opened them.
      trackUnmanagedFds: false,
    })
    slot.thread = thread
    slot.tally = tallyMemory && new FrameTally(tallyMemory, 'to_worker')
    const source = `worker-${index}`
    thread.on('message', ({ delta }: CountedMessage) => this.#counting?.counted(source, delta))
    const startedAtMs = Date.now()
    return new Promise<void>((resolve, reject) => {
      const events = {
        ready: () => {
          if (this.#draining) handle.send(['control.drain'])
          resolve()
        },
        failed: (message: string) => reject(new Error(message)),
      }
      const handle = new WorkerHandle(frames.port1, events, index, slot.tally)
      slot.handle = handle
      thread.once('error', (error) => {
        log.error({ err: error, worker: index }, 'worker failed')
        reject(error)
      })
      thread.once('exit', () => {
        // One that failed to start may end when its successor is there already.
        if (slot.thread === thread) {
          slot.handle = undefined
          slot.thread = undefined
          slot.tally = undefined
          this.#counting?.gone(source)
        }
        handle.lose(this.#stopping ? 'stopping' : 'worker_lost')
        reject(new Error(`worker ${index} ended while it was starting`))
        if (!this.#stopping && handle.wasReady) this.#restart(index, startedAtMs)
      })
    })
  }

  #restart(index: number, startedAtMs: number): void {
    const slot = this.#slots[index]
    if (slot === undefined) return
    slot.failures = Date.now() - startedAtMs > STABLE_AFTER_MS ? 0 : slot.failures + 1
    const { recorder } = this.#counting ?? {}
    recorder?.add('adapter_thread_restarts_total', { thread: 'worker' })
    recorder?.add('adapter_adapter_wiring_runs_total', { server_id: 'global', result: 'retry' })
    this.#options.log.warn(
      { worker: index, failures: slot.failures },
      'worker ended; starting it again',
    )
    this.#later(slot.failures, () => this.#startWorker(index, false))
  }

  #later(failures: number, start: () => Promise<void>): void {
    const delayMs = RESTART_DELAYS_MS[Math.min(failures, RESTART_DELAYS_MS.length - 1)]
    setTimeout(() => {
      if (this.#stopping) return
      start().catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'restart failed')
        this.#later(failures + 1, start)
      })
    }, delayMs).unref()
  }
}

/** How long the worker may take to end the servers that it runs: see `stop_grace_seconds`, which each of two steps gets. */
function endOfProcessesMs({ servers }: Config): number {
  const graces = servers.map(({ upstream }) =>
    upstream.transport === 'stdio' ? upstream.stopGraceSeconds : 0,
  )
  return 2 * 1_000 * Math.max(0, ...graces)
}
