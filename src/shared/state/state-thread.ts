/**
 * Entry of the thread that owns the state store, so that nobody else waits for the disk. It is started with `StateThreadOptions` as its data,
 * posts `StateThreadEvent`s, and obeys `StateThreadCommand`s.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

import type { MetricsDelta } from '../telemetry/delta.ts'
import { MetricRecorder } from '../telemetry/recorder.ts'
import type { CountedMessage } from '../telemetry/telemetry-messages.ts'
import { ThreadReport } from '../telemetry/thread-report.ts'
import { StoreHost } from './host.ts'
import { openLocalStore } from './open.ts'
import type { LocalStoreOptions } from './open.ts'
import type { SharedStateReport } from './redis/shared-state.ts'
import type { StateThreadOptions } from './state-options.ts'

/** `connect` hands over a port (also in the transfer list) for one more `RemoteStore`; `stop` closes the store and ends the thread. */
export type StateThreadCommand =
  | { readonly kind: 'connect'; readonly port: MessagePort }
  | { readonly kind: 'stop' }

/** `failed`: the store could not be opened, and the thread ends; or it could not be closed cleanly. `lost`: it can't be used at present, until `recovered`. */
export type StateThreadEvent =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'lost'; readonly message: string }
  | { readonly kind: 'recovered' }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'report'; readonly report: SharedStateReport }
  | CountedMessage

type Tell = (event: StateThreadEvent) => void

async function run(parent: MessagePort): Promise<void> {
  const early: StateThreadEvent[] = []
  let isOpen = false
  // The first event says whether the store opened; what was noticed on the way comes after it.
  const tell: Tell = (event) => {
    if (isOpen || event.kind === 'report') parent.postMessage(event)
    else early.push(event)
  }
  const fail = (error: unknown): void =>
    parent.postMessage({
      kind: 'failed',
      message: error instanceof Error ? error.message : String(error),
    } satisfies StateThreadEvent)
  const options: StateThreadOptions = workerData // whoever starts this file passes them
  let opened: Opened
  try {
    opened = options.type === 'redis' ? await openShared(options, tell) : openLocal(options, tell)
  } catch (error) {
    fail(error)
    return
  }
  const { reportIntervalMs: intervalMs } = options
  const send = (delta: MetricsDelta): void => tell({ kind: 'counted', delta })
  const report =
    typeof intervalMs === 'number'
      ? new ThreadReport({ recorder: new MetricRecorder(), thread: 'state', intervalMs, send })
      : undefined
  parent.on('message', (command: StateThreadCommand) => {
    switch (command.kind) {
      case 'connect':
        opened.host.connect(command.port)
        return
      case 'stop':
        opened
          .close()
          .catch(fail)
          .finally(() => {
            report?.end()
            parent.close()
          })
    }
  })
  isOpen = true
  tell({ kind: 'ready' })
  for (const event of early) tell(event)
}

interface Opened {
  readonly host: StoreHost
  /** Answers what was asked before, and closes the store. */
  readonly close: () => Promise<void>
}

function openLocal(options: LocalStoreOptions, tell: Tell): Opened {
  const onWarning = (message: string): void => tell({ kind: 'warning', message })
  const host = new StoreHost(openLocalStore(options, { onWarning }))
  return { host, close: () => host.close() }
}

async function openShared(
  options: Extract<StateThreadOptions, { type: 'redis' }>,
  tell: Tell,
): Promise<Opened> {
  // Loaded only here: a store on the local disk needs no client of Redis.
  const { SharedState } = await import('./redis/shared-state.ts')
  const state = new SharedState(options, {
    onReport: (report) => tell({ kind: 'report', report }),
    onWarning: (message) => tell({ kind: 'warning', message }),
    onFailure: (message) => tell({ kind: 'lost', message }),
    onRecovered: () => tell({ kind: 'recovered' }),
  })
  await state.start()
  return { host: state.host, close: () => state.stop() }
}

if (parentPort !== null) void run(parentPort)
