/** The composition root of a worker: store, files, upstreams, adapters, endpoints and maintenance; starts and stops them in order. */
import type { ServerConfig } from '../shared/config/config.ts'
import type { AdapterError } from '../shared/errors.ts'
import { FileStore } from '../shared/files/file-store.ts'
import type { ToWorkerFrame } from '../shared/frames/frames.ts'
import { StopList } from '../shared/lifecycle.ts'
import type { Log } from '../shared/log.ts'
import { SessionOwners } from '../shared/principals.ts'
import { UrlSigner } from '../shared/signing.ts'
import type { RemoteStore } from '../shared/state/remote.ts'
import type { Recorder } from '../shared/telemetry/recorder.ts'
import type { WorkerOptions } from '../shared/worker-options.ts'
import type { AdapterServices } from './adapters/adapter.ts'
import { sessionRootUri } from './adapters/session-root.ts'
import { SandboxPool } from './code-mode/sandbox-pool.ts'
import type { WorkerChannel } from './exchange/frame-exchange.ts'
import type { RequestHead } from './exchange/exchange.ts'
import { Listings } from './exchange/listings.ts'
import { McpEndpoint } from './exchange/mcp-endpoint.ts'
import { openDigestPool } from './files/digest-pool.ts'
import { DownloadEndpoint } from './files/download-endpoint.ts'
import { UploadEndpoint } from './files/upload-endpoint.ts'
import { WorkerHop } from './hop/worker-hop.ts'
import { LegacyEndpoint } from './legacy-sse/legacy-endpoint.ts'
import { FileMetrics } from './metrics/file-metrics.ts'
import { countListings, hopEvents, pingEvents } from './metrics/upstream-metrics.ts'
import { countLeases, countRefusals, countRun } from './metrics/worker-metrics.ts'
import { Upkeep } from './maintenance/upkeep.ts'
import { RequestDispatcher } from './request-dispatcher.ts'
import { Handshake } from './session/handshake.ts'
import { RequestAllowance } from './session/request-allowance.ts'
import { SessionRegistry, SHARED_COPY_LEASE_MS } from './session/registry.ts'
import { RootAnswers } from './stream/root-answers.ts'
import { isRooted } from './session/rooted.ts'
import { StreamHolder } from './stream/stream-holder.ts'
import { tellStorageTrouble } from './storage-trouble.ts'
import type { CallTracer } from './tracing/call-tracer.ts'
import { openUpstream } from './upstream/open-upstream.ts'
import { UpstreamGuard } from './upstream/upstream-guard.ts'
import type { Upstream } from './upstream/upstream.ts'

/** What a runtime is built from. */
export interface RuntimeParts {
  readonly options: WorkerOptions
  readonly store: RemoteStore
  readonly channel: WorkerChannel
  readonly recorder: Recorder
  readonly log: Log
  /** Undefined while calls are not traced. */
  readonly tracer?: CallTracer | undefined
}

interface ServerRuntime {
  readonly server: ServerConfig
  readonly upstream: Upstream
  readonly endpoint: McpEndpoint
  /** Undefined where legacy clients are not served. */
  readonly legacy: LegacyEndpoint | undefined
}

/** See the file comment. */
export class WorkerRuntime {
  /** Settles when a stop that was asked for by frame is done. */
  readonly stopped: Promise<void>
  readonly #parts: RuntimeParts
  readonly #stops = new StopList()
  readonly #services: AdapterServices
  readonly #registry: SessionRegistry
  readonly #handshake: Handshake
  readonly #streams: StreamHolder
  readonly #hop: WorkerHop
  readonly #sandboxes: SandboxPool | undefined
  readonly #servers: readonly ServerRuntime[]
  readonly #uploads: UploadEndpoint
  readonly #upkeep: Upkeep
  readonly #guard: UpstreamGuard
  readonly #requests: RequestDispatcher
  #settleStopped: (outcome: Promise<void>) => void = () => {}

  constructor(parts: RuntimeParts) {
    this.#parts = parts
    this.stopped = new Promise((resolve) => {
      this.#settleStopped = resolve
    })
    const { options, store, recorder, log } = parts
    const { config } = options
    const fileMetrics = new FileMetrics(recorder, config)
    const owners = new SessionOwners(config.core.auth)
    this.#services = {
      config,
      store,
      files: new FileStore({
        root: config.storage.root,
        atomicWrites: config.storage.atomicWrites,
        rootedServers: new Set(config.servers.filter(isRooted).map(({ id }) => id)),
      }),
      signer: new UrlSigner({ secrets: options.signingSecrets }),
      digests: openDigestPool(),
      onUploadUrl: (serverId) => fileMetrics.issued(serverId),
    }
    this.#registry = new SessionRegistry(store, {
      idleTtlMs: milliseconds(config.sessions.idleTtlSeconds),
      copyLeaseMs: config.statePersistence.type === 'redis' ? SHARED_COPY_LEASE_MS : null,
      owners,
    })
    store.onDisconnect(() => this.#registry.forgetAll())
    const { requestsPerMinute, burst } = config.core.rateLimit
    const allowance =
      requestsPerMinute === null
        ? undefined
        : new RequestAllowance(store, burst ?? requestsPerMinute)
    this.#guard = new UpstreamGuard({
      config,
      worker: options.index,
      workers: options.workers,
      memory: options.vitals,
      isStart: options.firstStart,
      log,
      ...(recorder.isOn
        ? { eventsOf: (server: ServerConfig) => pingEvents(recorder, server) }
        : {}),
    })
    const countRefusal = countRefusals(recorder, config)
    const tellTrouble = tellStorageTrouble(log, config)
    const onRefusal = (request: RequestHead, error: AdapterError): void => {
      if (recorder.isOn) countRefusal(request, error)
      tellTrouble(error)
    }
    this.#hop = new WorkerHop(options, store, {
      ...(recorder.isOn ? { events: hopEvents(recorder) } : {}),
      onRefusal,
    })
    const upstreams = new Map(
      config.servers.map((server, index) => {
        const listings = Listings.of(server, config)
        const guarded = this.#guard.guard(server, index, openUpstream(server, config, log))
        const isBound = server.upstream.transport !== 'streamable_http'
        const reached = isBound ? this.#hop.place(server.id, guarded) : guarded
        return [server.id, { server, listings, upstream: listings?.watch(reached) ?? reached }]
      }),
    )
    this.#handshake = new Handshake({
      registry: this.#registry,
      upstreamOf: (serverId) => upstreams.get(serverId),
      placement: { index: options.index, workers: options.workers },
      replicaId: options.replicaId,
      log,
    })
    const roots = config.servers.some(isRooted)
      ? new RootAnswers({
          rootUri: (server, key) => sessionRootUri(this.#services.files, server, key),
          log,
        })
      : undefined
    this.#streams = new StreamHolder({
      store,
      replicaId: options.replicaId,
      placement: { index: options.index, workers: options.workers },
      upstreamOf: (serverId) => upstreams.get(serverId),
      maxEventBytes: config.core.maxResponseMessageBytes,
      roots,
      onTakenOver: (serverId, seconds) => {
        const labels = { server_id: serverId }
        recorder.observe('adapter_stream_takeover_duration_seconds', labels, seconds)
      },
      log,
    })
    store.onReplicasLost((ids) => this.#streams.replicasLost(ids))
    const scripted = config.servers.filter(({ codeModeEnabled }) => codeModeEnabled).length
    this.#sandboxes = scripted > 0 ? new SandboxPool(config.core.codeMode, scripted) : undefined
    this.#servers = [...upstreams.values()].map(({ server, upstream, listings }, serverIndex) => {
      const endpoint = new McpEndpoint({
        server,
        config,
        services: this.#services,
        upstream,
        registry: this.#registry,
        handshake: this.#handshake,
        streams: this.#streams,
        listings,
        roots,
        recorder,
        sandboxes: this.#sandboxes,
        log,
        tracer: parts.tracer,
        allowance,
        fallbackBaseUrl: options.fallbackBaseUrl,
      })
      const legacy = config.core.legacySse.enabled
        ? new LegacyEndpoint({
            server,
            config,
            endpoint,
            registry: this.#registry,
            replicaId: options.replicaId,
            placement: { index: options.index, workers: options.workers },
            postElsewhere: (place, exchange) => this.#hop.postElsewhere(place, server, exchange),
            log,
          })
        : undefined
      if (legacy !== undefined)
        this.#hop.takeMessages(server.id, {
          serverIndex,
          handle: (exchange) => legacy.handle(exchange),
        })
      return { server, upstream, endpoint, legacy }
    })
    this.#uploads = new UploadEndpoint({
      ...this.#services,
      onCredential: (credential) => fileMetrics.validated(credential),
      onOutcome: (outcome) => {
        fileMetrics.uploaded(outcome)
        if (outcome.ok)
          log.debug({ server: outcome.serverId, files: outcome.files.length }, 'files uploaded')
        else
          log.debug(
            { server: outcome.serverId, code: outcome.error.code, err: outcome.error.cause },
            'upload refused',
          )
      },
    })
    const downloads = new DownloadEndpoint({
      ...this.#services,
      owners,
      onOutcome: (outcome) => {
        fileMetrics.downloaded(outcome)
        const { serverId: server, error } = outcome
        if (error !== undefined)
          log.debug({ server, code: error.code, err: error.cause }, 'download refused')
      },
    })
    this.#upkeep = new Upkeep({
      ...this.#services,
      store,
      replicaId: options.replicaId,
      log,
      maintains: options.maintains,
      busySessions: () => [
        ...this.#registry.busyLeases(),
        ...this.#uploads.activeSessions().map((key) => ({ key, callLeases: [] })),
      ],
      endUpstream: async (records) => {
        await Promise.all(records.map((record) => this.#handshake.endUpstream(record, [])))
      },
      onRun: (report) => countRun(recorder, report),
    })
    this.#requests = new RequestDispatcher({
      channel: parts.channel,
      log,
      allowance,
      onRefusal,
      servers: this.#servers,
      uploads: this.#uploads,
      downloads,
      hop: this.#hop.endpoint,
    })
    if (recorder.isOn) {
      countListings(
        recorder,
        [...upstreams.values()].flatMap(({ listings }) => listings ?? []),
      )
      countLeases(recorder, this.#streams, this.#upkeep)
    }
  }

  /** Resolves when requests can be taken. On the replica's first start, one worker clears up after dead processes before. */
  async start(): Promise<void> {
    const { options, store } = this.#parts
    this.#stops.add('store', () => store.close())
    this.#stops.add('digests', () => this.#services.digests.close())
    this.#stops.add('upstreams', async () => {
      await Promise.all(this.#servers.map(({ upstream }) => upstream.close()))
    })
    this.#stops.add('pings', () => this.#guard.stop())
    this.#guard.start()
    this.#stops.add('hop', () => this.#hop.close())
    this.#stops.add('scripts', () => this.#sandboxes?.close())
    this.#stops.add('sessions', () => this.#registry.stop())
    this.#stops.add('streams', () => this.#streams.handOver())
    this.#stops.add('legacy clients', async () => {
      await Promise.all(this.#servers.flatMap(({ legacy }) => legacy?.stop() ?? []))
    })
    this.#streams.start({ isReplacement: !options.firstStart })
    this.#stops.add('upkeep', () => this.#upkeep.stop())
    await this.#upkeep.start(options.firstStart)
  }

  /** Takes a frame from the primary. */
  receive(frame: ToWorkerFrame): void {
    if (frame[0] === 'control.drain') this.#closeStreams()
    else if (frame[0] !== 'control.stop') this.#requests.receive(frame)
    else if (this.#requests.isOpen) this.#settleStopped(this.#stop(frame[1]))
  }

  /** Long-lived streams end, those that are opened from here on too; everything else is served. */
  #closeStreams(): void {
    void this.#streams.handOver()
    for (const { endpoint, legacy } of this.#servers) {
      endpoint.closeStreams()
      legacy?.closeStreams()
    }
    this.#hop.endpoint.closeStreams()
  }

  async #stop(graceMs: number): Promise<void> {
    const finished = this.#requests.finish(graceMs)
    this.#closeStreams()
    await finished
    await this.#stops.stop((part, error) =>
      this.#parts.log.error({ err: error, part }, 'stopping failed'),
    )
  }
}

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : seconds * 1_000
}
