/** The primary's end of telemetry: its own counting, and the thread that adds up, exports and shows what all count. */
import { Worker } from 'node:worker_threads'

import type { Config } from '../shared/config/config.ts'
import type { Log } from '../shared/log.ts'
import type { MetricsDelta } from '../shared/telemetry/delta.ts'
import { MetricRecorder } from '../shared/telemetry/recorder.ts'
import type { TelemetryCommand, TelemetryEvent } from '../shared/telemetry/telemetry-messages.ts'
import { reportIntervalMs, telemetryThreadOptions } from '../shared/telemetry/telemetry-options.ts'
import { ThreadReport } from '../shared/telemetry/thread-report.ts'

const TELEMETRY_THREAD = new URL('../shared/telemetry/export/main.js', import.meta.url)

/** Delay before the thread is started again, in milliseconds. */
const RESTART_DELAY_MS = 1_000

/** Longest wait for the text of a scrape, in milliseconds. */
const SCRAPE_TIMEOUT_MS = 5_000

/** Scrapes that may wait at a time. */
const MAX_SCRAPES = 16

/** What the thread gets to end by itself beyond its time, in milliseconds. */
const END_MARGIN_MS = 1_000

/** What telemetry is made with. */
export interface TelemetryParts {
  readonly config: Pick<Config, 'telemetry'>
  readonly replicaId: string
  readonly version: string
  readonly log: Log
  /** Entry file of the thread; by default the one of this package. */
  readonly thread?: URL
}

/** See the file comment. Losing the thread loses what was counted so far, and nothing else. */
export class Telemetry {
  readonly recorder = new MetricRecorder()
  readonly #parts: TelemetryParts
  readonly #report: ThreadReport
  readonly #scrapes = new Map<number, (text: string | undefined) => void>()
  #thread: Worker | undefined
  #nextScrape = 1
  #isStopping = false
  #isHurried = false
  #cpu: NodeJS.CpuUsage = { user: 0, system: 0 }

  private constructor(parts: TelemetryParts, intervalMs: number) {
    this.#parts = parts
    const send = (delta: MetricsDelta): void => this.counted('primary', delta)
    this.#report = new ThreadReport({
      recorder: this.recorder,
      thread: 'primary',
      intervalMs,
      send,
    })
    this.recorder.beforeReport(() => this.#sampleProcess())
  }

  /** Starts it; undefined where the configuration wants none. Rejects when its port can't be taken. */
  static async start(parts: TelemetryParts): Promise<Telemetry | undefined> {
    const intervalMs = reportIntervalMs(parts.config)
    if (intervalMs === null) return undefined
    const telemetry = new Telemetry(parts, intervalMs)
    try {
      await telemetry.#startThread()
    } catch (error) {
      telemetry.#isStopping = true
      telemetry.#report.end()
      throw error
    }
    return telemetry
  }

  /** Takes what a thread counted. */
  counted(source: string, delta: MetricsDelta): void {
    this.#send({ kind: 'counted', source, delta })
  }

  /** A thread has ended. */
  gone(source: string): void {
    this.#send({ kind: 'gone', source })
  }

  /** All metrics in Prometheus' format; undefined when they are not to be had now. */
  scrape(): Promise<string | undefined> {
    if (this.#thread === undefined || this.#scrapes.size >= MAX_SCRAPES)
      return Promise.resolve(undefined)
    const id = this.#nextScrape++
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#scraped(id, undefined), SCRAPE_TIMEOUT_MS)
      this.#scrapes.set(id, (text) => {
        clearTimeout(timer)
        resolve(text)
      })
      // What this thread counted up to now is part of it.
      this.#report.send()
      this.#send({ kind: 'scrape', id })
    })
  }

  /** Exports what is known, where `flush_on_terminate` asks for it. Waits for nothing. */
  stopRequested(): void {
    if (!this.#parts.config.telemetry.flushOnTerminate) return
    this.#report.send()
    this.#send({ kind: 'export' })
  }

  /** Ends it, after a last export where `flush_on_shutdown` asks for one, within `shutdown_drain_timeout_seconds`. */
  async stop(): Promise<void> {
    this.#isStopping = true
    this.#report.end()
    const thread = this.#thread
    if (thread === undefined) return
    const { flushOnShutdown, shutdownDrainTimeoutSeconds, enabled } = this.#parts.config.telemetry
    const exports = enabled && flushOnShutdown && !this.#isHurried
    const limitMs = exports ? shutdownDrainTimeoutSeconds * 1_000 : 0
    const exited = new Promise<void>((resolve) => thread.once('exit', () => resolve()))
    this.#send({ kind: 'finish', limitMs })
    const timer = setTimeout(() => void thread.terminate(), limitMs + END_MARGIN_MS)
    await exited
    clearTimeout(timer)
  }

  /** Waits no more for the collector. */
  hurry(): void {
    this.#isHurried = true
    if (this.#isStopping) void this.#thread?.terminate()
  }

  #send(command: TelemetryCommand): void {
    this.#thread?.postMessage(command)
  }

  #scraped(id: number, text: string | undefined): void {
    const settle = this.#scrapes.get(id)
    this.#scrapes.delete(id)
    settle?.(text)
  }

  #startThread(): Promise<void> {
    const { config, replicaId, version, log, thread: entry } = this.#parts
    const workerData = telemetryThreadOptions(config, { replicaId, version })
    const thread = new Worker(entry ?? TELEMETRY_THREAD, { workerData })
    let wasReady = false
    return new Promise((resolve, reject) => {
      thread.on('message', (event: TelemetryEvent) => {
        switch (event.kind) {
          case 'ready':
            wasReady = true
            this.#thread = thread
            if (event.scrapePort !== null)
              log.info({ port: event.scrapePort }, 'metrics are shown on a port of their own')
            resolve()
            return
          case 'failed':
            reject(new Error(event.message))
            return
          case 'scraped':
            this.#scraped(event.id, event.text)
            return
          case 'trouble':
            log.warn(event.details, event.message)
        }
      })
      thread.once('error', (error) => {
        log.error({ err: error }, 'telemetry thread failed')
        reject(error)
      })
      thread.once('exit', () => {
        reject(new Error('the telemetry thread ended while it was starting'))
        if (this.#thread === thread) this.#thread = undefined
        for (const id of this.#scrapes.keys()) this.#scraped(id, undefined)
        if (wasReady && !this.#isStopping) this.#startAgain()
      })
    })
  }

  #startAgain(): void {
    const { log } = this.#parts
    log.warn({}, 'telemetry thread ended; starting it again, its counters begin anew')
    this.recorder.add('adapter_thread_restarts_total', { thread: 'telemetry' })
    setTimeout(() => {
      if (this.#isStopping) return
      this.#startThread().catch((error: unknown) => {
        log.error({ err: error }, 'telemetry thread did not start')
        this.#startAgain()
      })
    }, RESTART_DELAY_MS).unref()
  }

  #sampleProcess(): void {
    const { recorder } = this
    recorder.set('adapter_process_resident_memory_bytes', {}, process.memoryUsage.rss())
    recorder.set('adapter_process_start_time_seconds', {}, performance.timeOrigin / 1_000)
    const cpu = process.cpuUsage()
    for (const mode of ['user', 'system'] as const) {
      const seconds = (cpu[mode] - this.#cpu[mode]) / 1e6
      recorder.add('adapter_process_cpu_seconds_total', { mode }, seconds)
    }
    this.#cpu = cpu
  }
}
