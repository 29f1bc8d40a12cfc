/** The export of logs and spans as the primary sees it: starts the export thread, connects threads to it, and starts it again when it dies. */
import { MessageChannel, Worker } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import type { TelemetryConfig } from '../shared/config/config.ts'
import { TelemetryOutbox } from '../shared/telemetry/outbox.ts'
import { NO_COUNTS } from '../shared/telemetry/records.ts'
import type {
  ExportCounts,
  ExportThreadOptions,
  FromExportThread,
  SignalOptions,
} from '../shared/telemetry/records.ts'

const EXPORT_THREAD = new URL('../shared/telemetry/export/export-thread.js', import.meta.url)

/** Before a thread that died is started again, in milliseconds. */
const RESTART_MS = 1_000
/** What the thread may take to end beyond what it was given for its last export, in milliseconds. */
const STOP_MARGIN_MS = 1_000
/** Where the configuration leaves it open. */
const DEFAULT_QUEUE = 2_048
const DEFAULT_BATCH = 512
const DEFAULT_DELAY_MS = 1_000

/** What exports are told of. */
export interface ExportEvents {
  /** Exports of one kind began to fail, or (`problem` undefined) go through again. */
  changed(signal: 'logs' | 'spans', problem: string | undefined, counts: ExportCounts): void
  /** The thread ended by itself, and is started again. */
  lost(error: unknown): void
}

/** How a replica is called in what it exports. */
export interface ReplicaIdentity {
  readonly replicaId: string
  readonly version: string
}

/** See the file comment. One per replica. */
export class TelemetryExport {
  /** Of the primary thread. */
  readonly outbox: TelemetryOutbox
  readonly #entry: URL
  readonly #options: ExportThreadOptions
  readonly #hastens: boolean
  readonly #lastMs: number
  #events: ExportEvents | undefined
  #thread: Worker
  #counts: ExportCounts = { logs: NO_COUNTS, spans: NO_COUNTS }
  #whenRestarted: (() => void) | undefined
  #isStopping = false
  #isHurried = false
  #stopped: Promise<void> | undefined

  /** Undefined where the configuration exports neither logs nor spans. `thread` is another entry file than that of this package. */
  static of(
    telemetry: TelemetryConfig,
    identity: ReplicaIdentity,
    thread: URL = EXPORT_THREAD,
  ): TelemetryExport | undefined {
    const logs = telemetry.enabled && telemetry.emitLogs
    const spans = telemetry.enabled && telemetry.traces.enabled
    return logs || spans ? new TelemetryExport(telemetry, identity, thread) : undefined
  }

  private constructor(
    telemetry: TelemetryConfig,
    { replicaId, version }: ReplicaIdentity,
    entry: URL,
  ) {
    this.#entry = entry
    const { serviceName, serviceNamespace, transport, insecure, headers } = telemetry
    this.#options = {
      transport,
      insecure,
      headers,
      version,
      resource: {
        'service.name': serviceName,
        ...(serviceNamespace === null ? {} : { 'service.namespace': serviceNamespace }),
        'service.version': version,
        'service.instance.id': replicaId,
      },
      logs: telemetry.emitLogs ? logOptions(telemetry) : undefined,
      spans: telemetry.traces.enabled ? spanOptions(telemetry) : undefined,
    }
    this.#hastens = telemetry.flushOnTerminate
    this.#lastMs = telemetry.flushOnShutdown ? telemetry.shutdownDrainTimeoutSeconds * 1_000 : 0
    this.#thread = this.#start()
    this.outbox = new TelemetryOutbox(this.connect())
  }

  /** What became of all records so far; at most a second old. */
  get counts(): ExportCounts {
    return this.#counts
  }

  get exportsLogs(): boolean {
    return this.#options.logs !== undefined
  }

  /** The port through which a further thread hands over its records. */
  connect(): MessagePort {
    const { port1, port2 } = new MessageChannel()
    this.#thread.postMessage({ kind: 'connect', port: port2 }, [port2])
    return port1
  }

  /** `whenRestarted` is called when all threads need new ports. */
  listen(events: ExportEvents, whenRestarted: () => void): void {
    this.#events = events
    this.#whenRestarted = whenRestarted
  }

  /** Exports what is there, where `flush_on_terminate` asks for it. Waits for nothing. */
  stopRequested(): void {
    if (!this.#hastens || this.#isStopping) return
    this.outbox.hasten()
    this.#thread.postMessage({ kind: 'hasten' })
  }

  /** Exports what is left, where `flush_on_shutdown` asks for it, and ends the thread. Call it when all other threads have ended. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  /** Waits no more for the collector. */
  hurry(): void {
    this.#isHurried = true
    if (this.#isStopping) void this.#thread.terminate()
  }

  async #stop(): Promise<void> {
    this.#isStopping = true
    this.outbox.close()
    const limitMs = this.#isHurried ? 0 : this.#lastMs
    const thread = this.#thread
    let limit: NodeJS.Timeout | undefined
    const ended = new Promise<void>((resolve) => {
      // Also where it had died before, and will not say so again.
      limit = setTimeout(resolve, limitMs + STOP_MARGIN_MS)
      thread.once('exit', () => resolve())
    })
    thread.postMessage({ kind: 'stop', limitMs })
    await ended
    clearTimeout(limit)
    await thread.terminate()
  }

  #start(): Worker {
    const thread = new Worker(this.#entry, { workerData: this.#options })
    // A start that fails ends the process, whatever is left to export.
    thread.unref()
    thread.on('message', (event: FromExportThread) => {
      this.#counts = event.counts
      if (event.kind === 'health') this.#events?.changed(event.signal, event.problem, event.counts)
    })
    thread.on('error', (error) => this.#events?.lost(error))
    thread.once('exit', () => {
      if (!this.#isStopping) setTimeout(() => this.#restart(), RESTART_MS).unref()
    })
    return thread
  }

  #restart(): void {
    if (this.#isStopping) return
    this.#thread = this.#start()
    this.outbox.reconnect(this.connect())
    this.#whenRestarted?.()
  }
}

function logOptions(telemetry: TelemetryConfig): SignalOptions {
  return {
    endpoint: telemetry.logsEndpoint,
    maxQueueSize: telemetry.logBatchMaxQueueSize ?? DEFAULT_QUEUE,
    maxBatchSize: telemetry.logBatchMaxExportBatchSize ?? DEFAULT_BATCH,
    delayMs: telemetry.logBatchScheduleDelayMillis ?? DEFAULT_DELAY_MS,
    timeoutMs: telemetry.logBatchExportTimeoutMillis ?? telemetry.exportTimeoutSeconds * 1_000,
  }
}

function spanOptions({ traces }: TelemetryConfig): SignalOptions {
  return {
    endpoint: traces.endpoint,
    maxQueueSize: traces.maxQueueSize,
    maxBatchSize: traces.maxExportBatchSize,
    delayMs: traces.scheduleDelayMillis,
    timeoutMs: traces.exportTimeoutMillis,
  }
}
