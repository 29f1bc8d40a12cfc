/**
 * A thread's end of the way to the export thread. It never waits: what does not fit is dropped and counted. One batch is under way at a time, so that an
 * export thread that is slow, or gone, costs its senders a bounded queue and nothing else.
 */
import type { MessagePort } from 'node:worker_threads'

import type { LogEntry, SpanEntry, TelemetryBatch } from './records.ts'

/** Most records of each kind that wait. */
const MAX_WAITING = 4_096
/** Most characters of log lines that wait. */
const MAX_WAITING_CHARS = 4_194_304
/** How long records are gathered before they are sent, in milliseconds. */
const GATHER_MS = 100

/** See the file comment. One per thread. */
export class TelemetryOutbox {
  #port: MessagePort | undefined
  #logs: LogEntry[] = []
  #spans: SpanEntry[] = []
  #chars = 0
  #droppedLogs = 0
  #droppedSpans = 0
  #isUnderWay = false
  #timer: NodeJS.Timeout | undefined

  constructor(port: MessagePort) {
    this.reconnect(port)
  }

  log(entry: LogEntry): void {
    const chars = entry.text.length
    if (this.#logs.length >= MAX_WAITING || this.#chars + chars > MAX_WAITING_CHARS) {
      this.#droppedLogs++
      return
    }
    this.#chars += chars
    this.#logs.push(entry)
    this.#schedule()
  }

  span(entry: SpanEntry): void {
    if (this.#spans.length >= MAX_WAITING) {
      this.#droppedSpans++
      return
    }
    this.#spans.push(entry)
    this.#schedule()
  }

  /** Goes on through another port: the export thread is a new one. What was under way to the old one is lost. */
  reconnect(port: MessagePort): void {
    this.#port?.close()
    this.#port = port
    this.#isUnderWay = false
    port.on('message', () => {
      if (this.#port !== port) return
      this.#isUnderWay = false
      if (this.#logs.length > 0 || this.#spans.length > 0) this.#schedule()
    })
    // A thread ends although its telemetry could still be sent.
    port.unref()
    if (this.#logs.length > 0 || this.#spans.length > 0) this.#schedule()
  }

  /** Hands over what waits, before its time. */
  hasten(): void {
    if (!this.#isUnderWay && (this.#logs.length > 0 || this.#spans.length > 0)) this.#send()
  }

  /** Hands over what is left, and closes the port. */
  close(): void {
    this.#send()
    this.#port?.close()
    this.#port = undefined
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#isUnderWay) return
    this.#timer = setTimeout(() => this.#send(), GATHER_MS)
    this.#timer.unref()
  }

  #send(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#port === undefined) return
    this.#isUnderWay = true
    const dropped = { logs: this.#droppedLogs, spans: this.#droppedSpans }
    const batch: TelemetryBatch = { logs: this.#logs, spans: this.#spans, dropped }
    this.#port.postMessage(batch)
    this.#logs = []
    this.#spans = []
    this.#chars = 0
    this.#droppedLogs = 0
    this.#droppedSpans = 0
  }
}
