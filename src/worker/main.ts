/** Thread entry of a worker: connects the ports, starts the runtime, and exits when it is asked to. */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import { secretsOf } from '../shared/config/secrets.ts'
import { FrameChannel } from '../shared/frames/channel.ts'
import { FrameTally } from '../shared/frames/frame-tally.ts'
import type { ToPrimaryFrame, ToWorkerFrame } from '../shared/frames/frames.ts'
import { openLog } from '../shared/log.ts'
import { Redactor } from '../shared/redaction.ts'
import { RemoteStore } from '../shared/state/remote.ts'
import { MetricRecorder, NOT_RECORDING } from '../shared/telemetry/recorder.ts'
import type { CountedMessage } from '../shared/telemetry/telemetry-messages.ts'
import { reportIntervalMs } from '../shared/telemetry/telemetry-options.ts'
import { ThreadReport } from '../shared/telemetry/thread-report.ts'
import { logEntry } from '../shared/telemetry/log-entry.ts'
import { TelemetryOutbox } from '../shared/telemetry/outbox.ts'
import type { WorkerOptions } from '../shared/worker-options.ts'
import { StoreMetrics } from './metrics/store-metrics.ts'
import { WorkerRuntime } from './runtime.ts'
import { CallTracer } from './tracing/call-tracer.ts'

// The supervisor is the only one who starts this thread.
const options = workerData as WorkerOptions
const redactor = new Redactor(secretsOf(options.config))
redactor.learn({ values: [...options.signingSecrets, ...options.hopSecrets] })
const { telemetry, core } = options.config
const outbox =
  options.telemetryPort === undefined ? undefined : new TelemetryOutbox(options.telemetryPort)
const log = openLog(core.logLevel, `worker-${options.index}`, redactor, {
  fields: { replica: options.replicaId },
  onLine:
    outbox === undefined || !telemetry.emitLogs ? undefined : (line) => outbox.log(logEntry(line)),
})
const tracer =
  outbox === undefined || !telemetry.traces.enabled
    ? undefined
    : new CallTracer({ traces: telemetry.traces, outbox, redactor })
const intervalMs = reportIntervalMs(options.config)
const counter = intervalMs === null ? undefined : new MetricRecorder()
const recorder = counter ?? NOT_RECORDING
const storeMetrics = new StoreMetrics(recorder, options.config)
const store = new RemoteStore(options.storePort, {
  onAnswered: counter && storeMetrics.answered,
})
const report =
  counter &&
  new ThreadReport({
    recorder: counter,
    thread: `worker-${options.index}`,
    intervalMs: intervalMs ?? 0,
    send: (delta) => parentPort?.postMessage({ kind: 'counted', delta } satisfies CountedMessage),
  })
const channel: FrameChannel<ToPrimaryFrame, ToWorkerFrame> = new FrameChannel(
  options.framePort,
  (frame) => runtime.receive(frame),
  options.tallyMemory && new FrameTally(options.tallyMemory, 'to_primary'),
)
const runtime = new WorkerRuntime({ options, store, channel, recorder, log, tracer })

parentPort?.on('message', (message: { kind: 'store' | 'telemetry'; port: MessagePort }) => {
  if (message.kind === 'store') store.reconnect(message.port)
  else outbox?.reconnect(message.port)
})

runtime.start().then(
  () => channel.send(['control.ready']),
  (error: unknown) => {
    channel.send(['control.failed', error instanceof Error ? error.message : String(error)])
    channel.close()
    outbox?.close()
    parentPort?.close()
  },
)

runtime.stopped
  .catch((error: unknown) => log.error({ err: error }, 'stopping failed'))
  .finally(() => {
    channel.close()
    report?.end()
    outbox?.close()
    // With its ports closed the thread has nothing to wait for and ends by itself.
    parentPort?.close()
  })
