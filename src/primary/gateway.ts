/** The composition root of a replica: what starts in which order, and stops in the reverse. */
import { availableParallelism } from 'node:os'

import type { Config } from '../shared/config/config.ts'
import { HopSigner } from '../shared/hop-seal.ts'
import { StopList } from '../shared/lifecycle.ts'
import { maskUrls } from '../shared/config/secrets.ts'
import type { Log } from '../shared/log.ts'
import type { Redactor } from '../shared/redaction.ts'
import { stateOptions } from '../shared/state/state-options.ts'
import { checkClientTls } from '../shared/upstream-tls.ts'
import { RootProbe } from './doctor/root-probe.ts'
import { Health } from './health.ts'
import { advertisedUrl, hopListenAddress, isOpenToOthers, needsHop } from './hop-address.ts'
import { HopListener } from './listener/hop-listener.ts'
import type { RequestFields } from './listener/request-record.ts'
import { loadNative } from './listener/native.ts'
import { JointListener } from './listener/joint-listener.ts'
import { Listener } from './listener/server.ts'
import { readTls, requireTls } from './listener/tls.ts'
import { packageVersion } from './package-version.ts'
import { countReplica } from './replica-metrics.ts'
import { countStored } from './store-metrics.ts'
import { Shutdown } from './shutdown.ts'
import { hopKeys, signingKeys } from './signing-keys.ts'
import { StoreTransitions } from './store-transitions.ts'
import type { ExportEvents, TelemetryExport } from './telemetry-export.ts'
import { Supervisor } from './supervisor.ts'
import { Telemetry } from './telemetry.ts'
import { UpstreamHealth } from './upstream-health.ts'

/** How long `/readyz` says no before connections are refused, where several replicas share state and the configuration does not say, in seconds. */
const SHARED_PRE_DRAIN_SECONDS = 5

/** Most characters of a name of the client's in a log line. */
const MAX_NAME_CHARS = 64

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

/** What a replica is started with. */
export interface GatewayServices {
  readonly log: Log
  /** Told of secrets that are made on the way. */
  readonly redactor: Redactor
  readonly replicaId: string
  /** Undefined where neither logs nor spans are exported. Ended with the replica. */
  readonly telemetry: TelemetryExport | undefined
}

/** Starts a replica; on failure everything that was started is ended before it rejects. `port` 0 picks a free one. */
export async function startGateway(
  config: Config,
  { log, redactor, replicaId, telemetry }: GatewayServices,
): Promise<Gateway> {
  const parts = new StopList()
  const onStopError = (name: string, error: unknown): void =>
    log.error({ err: error, part: name }, 'stopping failed')
  const tls = readTls(config.core)
  checkClientTls(config.servers)
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
  const hopSecrets = needsHop(config, workers) ? await hopKeys(config) : []
  redactor.learn({ values: [...signingSecrets, ...hopSecrets] })
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
    hopSecrets,
    fallbackBaseUrl: `${tls === null ? 'http' : 'https'}://${config.core.host === '0.0.0.0' || config.core.host === '::' ? '127.0.0.1' : config.core.host}:${config.core.port}`,
    log,
    replicaId,
    connectTelemetry: telemetry && (() => telemetry.connect()),
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
    let metrics: Telemetry | undefined
    telemetry?.listen(exportEvents(log), () => supervisor.reconnectTelemetry())
    // Last, so that it has what all others said and counted; both at once, as each may have to wait for a collector.
    parts.add('telemetry', async () => {
      await Promise.all([metrics?.stop(), telemetry?.stop()])
    })
    if (rootProbe !== undefined) {
      // Stopped last, and announced first: others must not miss its file while they know of this replica.
      parts.add('root probe', () => rootProbe.stop())
      await rootProbe.announce()
    }
    metrics = await Telemetry.start({ config, replicaId, version: packageVersion(), log })
    if (metrics !== undefined) {
      supervisor.countInto(metrics)
      transitions.countInto(metrics.recorder)
      countReplica(metrics.recorder, { config, supervisor, telemetry, listener: native.build })
    }
    let hop: HopListener | undefined
    let hopUrl: string | null = null
    if (hopSecrets.length > 0) {
      const opened = new HopListener({
        native,
        maxMessageBytes: config.core.maxMessageBytes,
        replicaId: supervisor.replicaId,
        signer: new HopSigner(hopSecrets),
        workerAt: (index) => supervisor.workerAt(index),
        log,
      })
      // Closed after the workers have finished what others asked of them, and open before anybody can ask.
      hop = opened
      parts.add('hop', () => opened.close())
      const { host, port } = hopListenAddress(config)
      hopUrl = advertisedUrl(config, host, await opened.listen(host, port))
      log.info({ hopUrl }, `reached by other replicas at ${hopUrl}`)
      if (tls !== null && isOpenToOthers(hopUrl))
        log.warn(
          { hopUrl },
          'core.tls does not cover what replicas ask of each other (core.replica_hop): it is signed, but not encrypted; keep it in a network of their own, or give core.replica_hop.advertised_url the https:// address of a proxy that ends TLS',
        )
    }
    parts.add('state thread', () => supervisor.stopState())
    parts.add('workers', () => supervisor.stopWorkers(graceMs))
    await supervisor.start(hopUrl)
    if (loss.signal.aborted) throw new StoreLostError()
    const wiring = { server_id: 'global', result: 'ready' } as const
    metrics?.recorder.add('adapter_adapter_wiring_runs_total', wiring)
    rootProbe?.start()
    if (metrics !== undefined)
      countStored(metrics.recorder, { config, inventory: () => supervisor.store.inventory() })
    const health = new Health({
      config,
      isComplete: () => supervisor.isComplete,
      isStopping: () => shutdown?.hasBegun === true,
      inventory: () => supervisor.store.inventory(),
      sharedState: () => supervisor.report,
      replicasElsewhere: () => rootProbe?.elsewhere ?? 0,
      upstreams: new UpstreamHealth(config, supervisor.vitals),
    })
    const listener = new Listener(native, config, tls, {
      workerFor: (sessionId) => supervisor.workerFor(sessionId),
      recorder: metrics?.recorder,
      ...(metrics === undefined ? {} : { metrics: () => metrics.scrape() }),
      health: (probe, isTrusted) => health.answer(probe, isTrusted),
      logRequest: config.core.logLevel === 'debug' ? requestLog(log, redactor) : undefined,
      keysFailed: (error) =>
        log.warn(
          { err: error, uri: maskUrls(config.core.auth.jwt.jwksUri ?? '') },
          'the keys of core.auth.jwt.jwks_uri can not be read: tokens that are not known yet are answered 503',
        ),
    })
    const port = await listener.listen(config.core.host, config.core.port)
    const stop = new Shutdown({
      listener: hop === undefined ? listener : new JointListener(listener, hop),
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
        metrics?.stopRequested()
        return stop.run()
      },
      hurry: () => {
        stop.hurry()
        telemetry?.hurry()
        metrics?.hurry()
      },
      storeLost,
    }
  } catch (error) {
    await parts.stop(onStopError)
    throw error
  }
}

/** Writes the lines of requests. Names that clients chose are cut after redaction, so that no part of a secret stays. */
function requestLog(log: Log, redactor: Redactor): (fields: RequestFields) => void {
  const named = (name: 'rpc_method' | 'tool', value: string | number | undefined) =>
    value === undefined ? {} : { [name]: redactor.text(String(value)).slice(0, MAX_NAME_CHARS) }
  return (fields) => {
    const { rpc_method: method, tool } = fields
    log.debug({ ...fields, ...named('rpc_method', method), ...named('tool', tool) }, 'request')
  }
}

/** A collector that fails is worth a line, and so is its return; what is lost in between is counted. */
function exportEvents(log: Log): ExportEvents {
  return {
    changed: (signal, problem, counts) => {
      const { queueFull, exportFailed } = counts[signal]
      const fields = { signal, dropped: queueFull + exportFailed }
      if (problem === undefined) log.info(fields, 'telemetry is exported again')
      else log.warn({ ...fields, reason: problem }, 'telemetry can not be exported and is dropped')
    },
    lost: (error) => log.error({ err: error }, 'the export thread ended; starting it again'),
  }
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
