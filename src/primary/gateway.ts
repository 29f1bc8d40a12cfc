/** The composition root of a replica: what starts in which order, and stops in the reverse. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

import type { Config } from '../shared/config/config.ts'
import { StopList } from '../shared/lifecycle.ts'
import type { Log } from '../shared/log.ts'
import { loadOrCreateSecret } from '../shared/signing.ts'
import { localStoreOptions } from '../shared/state/local-options.ts'
import { Health } from './health.ts'
import { loadNative } from './listener/native.ts'
import { Listener } from './listener/server.ts'
import { Supervisor } from './supervisor.ts'

/** A replica that serves. */
export interface Gateway {
  readonly port: number
  readonly workers: number
  readonly build: string
  /** Stops accepting, finishes what runs within the limit, closes streams and ends every thread. Idempotent. */
  stop(graceMs: number): Promise<void>
}

/** Starts a replica; on failure everything that was started is ended before it rejects. `port` 0 picks a free one. */
export async function startGateway(config: Config, log: Log): Promise<Gateway> {
  const parts = new StopList()
  const onStopError = (name: string, error: unknown): void =>
    log.error({ err: error, part: name }, 'stopping failed')
  const native = loadNative()
  const { maxContentLength } = native
  if (maxContentLength !== null && config.uploads.maxFileBytes > maxContentLength) {
    log.warn(
      { maxContentLength, listener: native.build },
      'files near uploads.max_file_bytes can only be sent in chunks (Transfer-Encoding: chunked): this build of the listener takes no larger Content-Length',
    )
  }
  const workers = config.core.workers ?? Math.max(1, availableParallelism() - 1)
  const { auth } = config.core
  const secret = auth.signingSecret ?? (auth.enabled ? auth.token : null)
  const supervisor = new Supervisor({
    config,
    state: localStoreOptions(config),
    workers,
    signingSecrets: [
      secret ?? (await loadOrCreateSecret(join(config.storage.root, 'state', 'signing-secret'))),
    ],
    fallbackBaseUrl: `http://${config.core.host === '0.0.0.0' || config.core.host === '::' ? '127.0.0.1' : config.core.host}:${config.core.port}`,
    log,
  })
  let stopping = false
  let graceMs = 0
  let stopped: Promise<void> | undefined
  const stopServing = async (listener: Listener, limitMs: number): Promise<void> => {
    const deadlineAtMs = Date.now() + limitMs
    stopping = true
    graceMs = limitMs
    listener.stopListening()
    // Connections close after the workers have answered what they had: they tell streams apart from calls.
    await parts.stop(onStopError)
    // Files, and the rest of answers to slow clients, go out from here, without a worker.
    await listener.idle(Math.max(0, deadlineAtMs - Date.now()))
    listener.close()
  }
  try {
    parts.add('state thread', () => supervisor.stopState())
    parts.add('workers', () => supervisor.stopWorkers(graceMs))
    await supervisor.start()
    const health = new Health({
      config,
      isComplete: () => supervisor.isComplete,
      isStopping: () => stopping,
      inventory: () => supervisor.store.inventory(),
    })
    const listener = new Listener(native, config, {
      workerFor: (sessionId) => supervisor.workerFor(sessionId),
      health: (probe) => health.answer(probe),
    })
    const port = await listener.listen(config.core.host, config.core.port)
    return {
      port,
      workers,
      build: native.build,
      stop: (limitMs) => {
        stopped ??= stopServing(listener, limitMs)
        return stopped
      },
    }
  } catch (error) {
    stopping = true
    await parts.stop(onStopError)
    throw error
  }
}
