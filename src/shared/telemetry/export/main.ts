/**
 * Entry of the telemetry thread: adds up what all threads counted, exports it, and shows it to Prometheus. A thread of its own, so that neither encoding
 * nor a collector that is slow, dead or wrong holds up anybody else.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { MetricRecorder } from '../recorder.ts'
import type { TelemetryCommand, TelemetryEvent } from '../telemetry-messages.ts'
import type { TelemetryThreadOptions } from '../telemetry-options.ts'
import type { CollectorLink } from './collector-link.ts'
import { renderExposition } from './exposition.ts'
import { openScrapeServer } from './scrape-server.ts'
import type { ScrapeServer } from './scrape-server.ts'
import { Totals } from './totals.ts'

/** What this thread itself counts comes from here. */
const OWN_SOURCE = 'telemetry'

/** See the file comment. */
class TelemetryThread {
  readonly #options: TelemetryThreadOptions
  readonly #parent: MessagePort
  readonly #totals = new Totals(Date.now())
  readonly #recorder = new MetricRecorder()
  #link: CollectorLink | undefined
  #server: ScrapeServer | undefined

  constructor(options: TelemetryThreadOptions, parent: MessagePort) {
    this.#options = options
    this.#parent = parent
  }

  async start(): Promise<void> {
    const { collector, scrapePort } = this.#options
    if (collector !== null) this.#link = await this.#openLink(collector)
    if (scrapePort !== null) this.#server = await openScrapeServer(scrapePort, () => this.#render())
    this.#parent.on('message', (command: TelemetryCommand) => this.#obey(command))
    this.#tell({ kind: 'ready', scrapePort: this.#server?.port ?? null })
  }

  async #openLink(
    collector: NonNullable<TelemetryThreadOptions['collector']>,
  ): Promise<CollectorLink> {
    // Loaded only here: Prometheus needs nothing of OpenTelemetry.
    const [{ CollectorLink: Link }, { openOtlpExporter }, { otlpBatches }] = await Promise.all([
      import('./collector-link.ts'),
      import('./otlp-exporter.ts'),
      import('./otlp-batches.ts'),
    ])
    const { resource, version } = this.#options
    return new Link({
      options: collector,
      exporter: await openOtlpExporter(collector),
      recorder: this.#recorder,
      collect: () => {
        this.#takeOwn()
        const { batchSize } = collector
        return otlpBatches(this.#totals, { resource, version, batchSize }, Date.now())
      },
      tell: (message, details) => this.#tell({ kind: 'trouble', message, details }),
    })
  }

  #obey(command: TelemetryCommand): void {
    switch (command.kind) {
      case 'counted':
        this.#totals.add(command.source, command.delta)
        return
      case 'gone':
        this.#totals.forgetGauges(command.source)
        return
      case 'scrape':
        this.#tell({ kind: 'scraped', id: command.id, text: this.#render() })
        return
      case 'export':
        this.#link?.export()
        return
      case 'finish':
        void this.#finish(command.limitMs)
    }
  }

  #render(): string {
    this.#takeOwn()
    return renderExposition(this.#totals.metrics())
  }

  #takeOwn(): void {
    this.#totals.add(OWN_SOURCE, this.#recorder.take())
  }

  async #finish(limitMs: number): Promise<void> {
    this.#server?.close()
    await this.#link?.finish(limitMs)
    // Exporters keep connections and timers, which nobody needs any more.
    process.exit()
  }

  #tell(event: TelemetryEvent): void {
    this.#parent.postMessage(event)
  }
}

if (parentPort !== null) {
  const parent = parentPort
  const thread = new TelemetryThread(workerData, parent) // whoever starts this file passes the options
  thread.start().catch((error: unknown) => {
    const message = error instanceof Error ? error.message : String(error)
    parent.postMessage({ kind: 'failed', message } satisfies TelemetryEvent)
    process.exit()
  })
}
