/** Replicas in one process, as far as the hop knows them: a listener each, workers behind real frames, upstreams in memory, and what each knows of the others. */
import { MessageChannel } from 'node:worker_threads'

import { pino } from 'pino'
import type { Test } from 'tap'

import { WorkerHandle } from '../../src/primary/dispatch/worker-handle.ts'
import { HopListener } from '../../src/primary/listener/hop-listener.ts'
import { loadNative } from '../../src/primary/listener/native.ts'
import { FrameChannel } from '../../src/shared/frames/channel.ts'
import type { ToPrimaryFrame, ToWorkerFrame } from '../../src/shared/frames/frames.ts'
import { HopSigner } from '../../src/shared/hop-seal.ts'
import { formatPlacedId } from '../../src/shared/place.ts'
import { mintReplicaId } from '../../src/shared/ids.ts'
import type { Log } from '../../src/shared/log.ts'
import { FrameExchange } from '../../src/worker/exchange/frame-exchange.ts'
import { HopClient } from '../../src/worker/hop/hop-client.ts'
import { HopEndpoint } from '../../src/worker/hop/hop-endpoint.ts'
import { PlacedUpstream } from '../../src/worker/hop/placed-upstream.ts'
import { ReplicaDirectory } from '../../src/worker/hop/replica-directory.ts'
import type {
  AnswerListener,
  Upstream,
  UpstreamCall,
  UpstreamRequest,
} from '../../src/worker/upstream/upstream.ts'

export const SECRET = 'a-secret-of-replicas-that-no-client-knows'
export const SERVER = 'files'

/** What a call of an upstream in memory was asked, and how it is steered. */
export interface SeenCall {
  readonly request: UpstreamRequest
  readonly listener: AnswerListener
  isAborted: boolean
  /** For how long it had been waited for when it was given up, where that was said. */
  waitedMs?: number | undefined
  isPaused: boolean
}

/** An upstream in memory, which does with each call what the test says. */
export class MemoryUpstream implements Upstream {
  readonly calls: SeenCall[] = []
  readonly #answer: (call: SeenCall) => void

  constructor(answer: (call: SeenCall) => void) {
    this.#answer = answer
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    const seen: SeenCall = { request, listener, isAborted: false, isPaused: false }
    this.calls.push(seen)
    setImmediate(() => this.#answer(seen))
    return {
      abort: (waitedMs) => {
        if (!seen.isAborted) seen.waitedMs = waitedMs
        seen.isAborted = true
      },
      pause: () => {
        seen.isPaused = true
      },
      resume: () => {
        seen.isPaused = false
      },
    }
  }

  async close(): Promise<void> {}
}

/** What the replicas know of each other; the test says it. */
export class Gossip {
  readonly #hops = new Map<string, string>()
  readonly #lossListeners: ((ids: readonly string[]) => void)[] = []
  readonly #changeListeners: (() => void)[] = []

  get replicas(): readonly string[] {
    return [...this.#hops.keys()]
  }

  hopOf(replicaId: string): string | undefined {
    return this.#hops.get(replicaId)
  }

  onReplicasLost(listener: (ids: readonly string[]) => void): void {
    this.#lossListeners.push(listener)
  }

  onReplicasChange(listener: () => void): void {
    this.#changeListeners.push(listener)
  }

  appear(replicaId: string, url: string): void {
    this.#hops.set(replicaId, url)
    for (const listener of this.#changeListeners) listener()
  }

  lose(replicaId: string): void {
    this.#hops.delete(replicaId)
    for (const listener of this.#changeListeners) listener()
    for (const listener of this.#lossListeners) listener([replicaId])
  }
}

/** One replica. */
export interface HopReplica {
  readonly replicaId: string
  readonly url: string
  readonly port: number
  /** The first worker's upstream, as the rest of that worker sees it. */
  readonly upstream: PlacedUpstream
  readonly client: HopClient
  readonly endpoints: readonly HopEndpoint[]
  /** Ends a worker as a crash does. */
  crashWorker(index: number): void
  /** Ends the listener, with all connections. */
  close(): void
}

/** Starts a replica with a worker for each of `locals`, which is known to `gossip` unless `isSecret`. */
export async function startHopReplica(
  t: Test,
  gossip: Gossip,
  locals: readonly MemoryUpstream[],
  {
    isSecret = false,
    secrets = [SECRET],
    log = pino({ level: 'silent' }),
  }: { isSecret?: boolean; secrets?: readonly string[]; log?: Log } = {},
): Promise<HopReplica> {
  const replicaId = mintReplicaId()
  const endpoints: HopEndpoint[] = []
  const handles: (WorkerHandle | undefined)[] = []
  for (const local of locals) {
    const endpoint = new HopEndpoint({
      upstreamOf: (id) => (id === SERVER ? local : undefined),
      legacyOf: () => undefined,
    })
    endpoints.push(endpoint)
    handles.push(startWorker(t, endpoint))
  }
  const listener = new HopListener({
    native: loadNative(),
    maxMessageBytes: 1_048_576,
    replicaId,
    signer: new HopSigner(secrets),
    workerAt: (index) => (handles[index]?.isReady === true ? handles[index] : undefined),
    log,
  })
  const port = await listener.listen('127.0.0.1', 0)
  const url = `http://127.0.0.1:${port}`
  if (!isSecret) gossip.appear(replicaId, url)
  const client = new HopClient({
    directory: new ReplicaDirectory(gossip, { replicaId, hopUrl: url }),
    secrets,
  })
  let isClosed = false
  const close = (): void => {
    if (isClosed) return
    isClosed = true
    listener.close()
  }
  t.teardown(async () => {
    close()
    await client.close()
  })
  const [local] = locals
  if (local === undefined) throw new Error('a replica has a worker')
  return {
    replicaId,
    url,
    port,
    client,
    endpoints,
    upstream: new PlacedUpstream({
      serverId: SERVER,
      local,
      place: { replicaId, worker: 0 },
      hop: client,
    }),
    crashWorker: (index) => {
      handles[index]?.lose('worker_lost')
      handles[index] = undefined
    },
    close,
  }
}

function startWorker(t: Test, endpoint: HopEndpoint): WorkerHandle {
  const { port1, port2 } = new MessageChannel()
  const handle = new WorkerHandle(port1, { ready: () => {}, failed: () => {} })
  const exchanges = new Map<number, FrameExchange>()
  const channel: FrameChannel<ToPrimaryFrame, ToWorkerFrame> = new FrameChannel(port2, (frame) => {
    if (frame[0] === 'request.head') {
      const [, id, route, serverIndex, method, target, headers, body, complete, principal] = frame
      const request = { route, serverIndex, method, target, headers, body, principal }
      const exchange = new FrameExchange(id, request, complete, channel, () => exchanges.delete(id))
      exchanges.set(id, exchange)
      endpoint.handle(exchange)
    } else if (frame[0] !== 'control.drain' && frame[0] !== 'control.stop') {
      exchanges.get(frame[1])?.receive(frame)
    }
  })
  channel.send(['control.ready'])
  t.teardown(() => {
    handle.lose('stopping')
    channel.close()
  })
  return handle
}

/** A POST in the session `id` of a worker. */
export function post(
  replica: HopReplica,
  { id = 'session-1', worker = 0, body = '{"jsonrpc":"2.0","id":1,"method":"ping"}' } = {},
): UpstreamRequest {
  const place = { replicaId: replica.replicaId, worker }
  const headers = [
    'content-type',
    'application/json',
    'mcp-session-id',
    formatPlacedId({ place, id }),
  ]
  return { method: 'POST', headers, body, isSafe: false }
}

/** Answers a call with a text. */
export const answering =
  (text: string) =>
  (call: SeenCall): void => {
    call.listener.head(200, ['content-type', 'application/json'])
    call.listener.data(Buffer.from(text))
    call.listener.end()
  }

/** Answers nothing. */
export const silent = (): void => {}

/** Two replicas that know each other; what is asked of the second about the first's connections takes the hop. */
export async function pair(
  t: Test,
  answer: (call: SeenCall) => void,
): Promise<{ gossip: Gossip; local: MemoryUpstream; holder: HopReplica; other: HopReplica }> {
  const gossip = new Gossip()
  const local = new MemoryUpstream(answer)
  const holder = await startHopReplica(t, gossip, [local])
  const other = await startHopReplica(t, gossip, [new MemoryUpstream(silent)])
  return { gossip, local, holder, other }
}
