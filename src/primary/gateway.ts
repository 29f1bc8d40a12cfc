/** The composition root of a replica: what starts in which order, and stops in the reverse. */
import { availableParallelism } from 'node:os'

import type { Config } from '../shared/config/config.ts'
import { StopList } from '../shared/lifecycle.ts'
import { maskUrls } from '../shared/config/secrets.ts'
import type { Log } from '../shared/log.ts'
import type { Redactor } from '../shared/redaction.ts'
import { stateOptions } from '../shared/state/state-options.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'
import { RootProbe } from './doctor/root-probe.ts'
import { Health } from './health.ts'
import { loadNative } from './listener/native.ts'
import { Listener } from './listener/server.ts'
import { readTls, requireTls } from './listener/tls.ts'
import { packageVersion } from './package-version.ts'
import { Shutdown } from './shutdown.ts'
import { signingKeys } from './signing-keys.ts'
import { StoreTransitions } from './store-transitions.ts'
import { Supervisor } from './supervisor.ts'
import { Telemetry } from './telemetry.ts'

/** How long `/readyz` says no before connections are refused, where several replicas share state and the configuration does not say, in seconds. */
const SHARED_PRE_DRAIN_SECONDS = 5

/** A replica that serves. */
export interface Gateway {
  readonly port: number
  readonly workers: number
  readonly build: string
  /** Stops as `core.pre_drain_seconds` and `core.shutdown_timeout_seconds` say (shutdown.ts). Idempotent. */
  stop(): Promise<void>
  /** Cuts a stop that runs short: what is in hand is given up. */
  hurry(): void
  /** Resolves when `unavailable_policy: exit` asks for the end of this replica. */
  readonly storeLost: Promise<void>
}

/** The shared state can't be reached, and `unavailable_policy` is `exit`. */
export class StoreLostError extends Error {
  override readonly name = 'StoreLostError'

  constructor() {
    super(
      'the shared state store can not be reached, and state_persistence.unavailable_policy is exit',
    )
  }
}

/** Starts a replica; on failure everything that was started is ended before it rejects. `port` 0 picks a free one. Secrets that it makes are told to `redactor`. */
export async function startGateway(config: Config, log: Log, redactor: Redactor): Promise<Gateway> {
  const parts = new StopList()
  const onStopError = (name: string, error: unknown): void =>
    log.error({ err: error, part: name }, 'stopping failed')
  const tls = readTls(config.core)
  const native = loadNative()
  if (tls !== null) requireTls(native)
  const { maxContentLength } = native
  if (maxContentLength !== null && config.uploads.maxFileBytes > maxContentLength) {
    log.warn(
      { maxContentLength, listener: native.build },
      'files near uploads.max_file_bytes can only be sent in chunks (Transfer-Encoding: chunked): this build of the listener takes no larger Content-Length',
    )
  }
  const workers = config.core.workers ?? Math.max(1, availableParallelism() - 1)
  const signingSecrets = await signingKeys(config)
  redactor.learn({ values: signingSecrets })
  const transitions = new StoreTransitions(config)
  const loss = new AbortController()
  const storeLost = new Promise<void>((resolve) => {
    loss.signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const supervisor = new Supervisor({
    config,
    state: stateOptions(config),
    workers,
    signingSecrets,
    fallbackBaseUrl: `${tls === null ? 'http' : 'https'}://${config.core.host === '0.0.0.0' || config.core.host === '::' ? '127.0.0.1' : config.core.host}:${config.core.port}`,
    log,
    onReport: (report) => {
      const { isAvailable } = report
      transitions.note(report)
      if (!isAvailable && config.statePersistence.unavailablePolicy === 'exit') loss.abort()
    },
  })
  let graceMs = 0
  let shutdown: Shutdown | undefined
  const rootProbe = createRootProbe(config, supervisor, log)
  try {
    if (rootProbe !== undefined) {
      // Stopped last, and announced first: others must not miss its file while they know of this replica.
      parts.add('root probe', () => rootProbe.stop())
      await rootProbe.announce()
    }
    const { replicaId } = supervisor
    // Stopped after those that count.
    const telemetry = await Telemetry.start({ config, replicaId, version: packageVersion(), log })
    if (telemetry !== undefined) {
      parts.add('telemetry', () => telemetry.stop())
      supervisor.countInto(telemetry)
      transitions.countInto(telemetry.recorder)
      countWiring(telemetry.recorder, config, supervisor, native.build)
    }
    parts.add('state thread', () => supervisor.stopState())
    parts.add('workers', () => supervisor.stopWorkers(graceMs))
    await supervisor.start()
    if (loss.signal.aborted) throw new StoreLostError()
    const wiring = { server_id: 'global', result: 'ready' } as const
    telemetry?.recorder.add('adapter_adapter_wiring_runs_total', wiring)
    rootProbe?.start()
    const health = new Health({
      config,
      isComplete: () => supervisor.isComplete,
      isStopping: () => shutdown?.hasBegun === true,
      inventory: () => supervisor.store.inventory(),
      sharedState: () => supervisor.report,
      replicasElsewhere: () => rootProbe?.elsewhere ?? 0,
    })
    const listener = new Listener(native, config, tls, {
      workerFor: (sessionId) => supervisor.workerFor(sessionId),
      recorder: telemetry?.recorder,
      ...(telemetry === undefined ? {} : { metrics: () => telemetry.scrape() }),
      health: (probe, isTrusted) => health.answer(probe, isTrusted),
      keysFailed: (error) =>
        log.warn(
          { err: error, uri: maskUrls(config.core.auth.jwt.jwksUri ?? '') },
          'the keys of core.auth.jwt.jwks_uri can not be read: tokens that are not known yet are answered 503',
        ),
    })
    const port = await listener.listen(config.core.host, config.core.port)
    const stop = new Shutdown({
      listener,
      preDrainMs: preDrainSeconds(config) * 1_000,
      graceMs: config.core.shutdownTimeoutSeconds * 1_000,
      closeStreams: () => supervisor.drainWorkers(),
      endThreads: (limitMs) => {
        graceMs = limitMs
        return parts.stop(onStopError)
      },
      log,
    })
    shutdown = stop
    return {
      port,
      workers,
      build: native.build,
      stop: () => {
        telemetry?.stopRequested()
        return stop.run()
      },
      hurry: () => {
        stop.hurry()
        telemetry?.hurry()
      },
      storeLost,
    }
  } catch (error) {
    await parts.stop(onStopError)
    throw error
  }
}

/** What is known of the replica as a whole. */
function countWiring(
  recorder: Recorder,
  { servers }: Config,
  supervisor: Supervisor,
  listener: string,
): void {
  const build = { version: packageVersion(), node: process.version, listener }
  recorder.set('adapter_build_info', build, 1)
  recorder.beforeReport(() => {
    // Every worker serves every server.
    const notReady = supervisor.isComplete ? 0 : servers.length
    recorder.set('adapter_adapter_wiring_not_ready_servers', { server_id: 'global' }, notReady)
  })
}

/** Only replicas that share a store can have roots that differ. */
function createRootProbe(
  { statePersistence, storage }: Config,
  supervisor: Supervisor,
  log: Log,
): RootProbe | undefined {
  if (statePersistence.type !== 'redis') return undefined
  const { replicaId } = supervisor
  const { root } = storage
  return new RootProbe({
    root,
    replicaId,
    replicas: () => supervisor.store.replicas,
    onElsewhere: (others) =>
      log.error(
        { replicaId, others, root },
        `replica ${replicaId} does not see the files of ${others.join(', ')} under ${root}: their storage.root is another directory or volume; mount the same one on every replica, else uploads and artifacts are missing wherever they were not made`,
      ),
    onTogether: () => log.warn({ replicaId, root }, 'all replicas use the same storage.root again'),
    onError: (error) => log.error({ err: error, root }, 'storage.root can not be used'),
  })
}

function preDrainSeconds({ core, statePersistence }: Config): number {
  return core.preDrainSeconds ?? (statePersistence.type === 'redis' ? SHARED_PRE_DRAIN_SECONDS : 0)
}
