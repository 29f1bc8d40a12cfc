/**
 * The listening socket for other replicas, and for the other workers of this one: hands what they ask to the worker that holds the connection. It knows no
 * credential of any client: only what a replica has signed for this one, just now and for the first time, goes further than its head.
 */
import { AdapterError } from '../../shared/errors.ts'
import { HOP_PATH, OUTCOME_HEADER, PROOF_HEADER, SEAL_HEADER } from '../../shared/hop-seal.ts'
import type { HopOutcome, HopSeal, HopSigner } from '../../shared/hop-seal.ts'
import { MAX_HOP_HEAD_BYTES } from '../../shared/hop-request.ts'
import type { Log } from '../../shared/log.ts'
import type { WorkerHandle } from '../dispatch/worker-handle.ts'
import { ListenerExchange } from './exchange.ts'
import { MessageIntake } from './message-intake.ts'
import { listenOn } from './listen.ts'
import type {
  HttpRequest,
  HttpResponse,
  NativeListener,
  TemplatedApp,
  us_listen_socket,
} from './native.ts'
import { refuse } from './whole-answer.ts'
import { MAX_CLOCK_SKEW_MS, ReplayGuard } from './replay-guard.ts'

/** What a listener is made of. */
export interface HopListenerParts {
  readonly native: NativeListener
  /** The largest message of a client; what adapters make of it may be somewhat larger. */
  readonly maxMessageBytes: number
  readonly replicaId: string
  readonly signer: HopSigner
  /** Undefined while the worker can't take requests: then there is nothing that it holds. */
  readonly workerAt: (index: number) => WorkerHandle | undefined
  readonly log: Log
}

/** Clocks that differ are told of at most this often, in milliseconds. */
const CLOCK_WARNING_MS = 60_000

/** Other replicas ask no further once this one is gone, so their connections need no word. */
const NO_DRAIN = { isDraining: false } as const

/** See the file comment. */
export class HopListener {
  readonly #parts: HopListenerParts
  readonly #app: TemplatedApp
  readonly #messages: MessageIntake
  readonly #guard = new ReplayGuard()
  #socket: us_listen_socket | undefined
  #warnedAtMs = -CLOCK_WARNING_MS
  #inFlight = 0
  #whenIdle: (() => void) | undefined

  constructor(parts: HopListenerParts) {
    this.#parts = parts
    this.#messages = new MessageIntake(parts.maxMessageBytes + MAX_HOP_HEAD_BYTES)
    this.#app = parts.native.uws.App()
    this.#app.any('/*', (res, req) => this.#handle(res, req))
  }

  /** Listens; answers the port (useful with port 0). */
  async listen(host: string, port: number): Promise<number> {
    const address = { host, port }
    const what = 'for other replicas (core.replica_hop) '
    const listening = await listenOn(this.#parts.native, this.#app, address, what)
    this.#socket = listening.socket
    return listening.port
  }

  /** How many requests have no complete answer yet. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Resolves when no request is in hand, or after `limitMs`. */
  async idle(limitMs: number): Promise<void> {
    if (this.#inFlight === 0) return
    let limit: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve
      limit = setTimeout(resolve, limitMs)
    })
    clearTimeout(limit)
  }

  /** Closes all connections. */
  close(): void {
    if (this.#socket !== undefined) this.#parts.native.uws.us_listen_socket_close(this.#socket)
    this.#socket = undefined
    this.#app.close()
  }

  #handle(res: HttpResponse, req: HttpRequest): void {
    const header = req.getHeader(SEAL_HEADER)
    const method = req.getCaseSensitiveMethod()
    const contentLength = lengthOf(req)
    const seal =
      method === 'POST' && req.getUrl() === HOP_PATH && contentLength >= 0
        ? this.#admit(header)
        : undefined
    if (seal === undefined) {
      // Nothing that tells a stranger what was wrong.
      const error = new AdapterError('ADAPTER_UNAUTHORIZED', 'only for replicas')
      refuse(res, error, 'other', { method, contentLength, headers: [] }, NO_DRAIN)
      return
    }
    const answerHeaders = [PROOF_HEADER, this.#parts.signer.prove(header)]
    const worker = this.#parts.workerAt(seal.worker)
    if (worker === undefined || !this.#messages.hasRoomFor(contentLength)) {
      const outcome =
        worker === undefined ? ([OUTCOME_HEADER, 'gone' satisfies HopOutcome] as const) : []
      const error = new AdapterError('ADAPTER_OVERLOADED', 'the worker can not take this request')
      const headers = [...answerHeaders, ...outcome]
      refuse(res, error, 'other', { method, contentLength, headers }, NO_DRAIN)
      return
    }
    const request = {
      route: 'hop',
      serverIndex: -1,
      method,
      target: HOP_PATH,
      headers: [SEAL_HEADER, header],
      contentLength,
      answerHeaders,
      principal: '',
      correlationId: '',
      record: undefined,
    } as const
    this.#inFlight++
    this.#messages.collect(res, request, {
      whole: (body) =>
        new ListenerExchange(res, worker, request, NO_DRAIN, this.#leave).dispatchWhole(body),
      over: this.#leave,
    })
  }

  readonly #leave = (): void => {
    this.#inFlight--
    if (this.#inFlight === 0) this.#whenIdle?.()
  }

  #admit(header: string): HopSeal | undefined {
    const { signer, replicaId } = this.#parts
    const seal = signer.open(replicaId, header)
    if (seal === undefined) return undefined
    const verdict = this.#guard.take(seal)
    if (verdict === 'fresh') return seal
    if (verdict === 'clock') this.#warnOfClock(seal.sentAtMs)
    return undefined
  }

  #warnOfClock(sentAtMs: number): void {
    const nowMs = performance.now()
    if (nowMs - this.#warnedAtMs < CLOCK_WARNING_MS) return
    this.#warnedAtMs = nowMs
    const seconds = Math.round((Date.now() - sentAtMs) / 1_000)
    this.#parts.log.warn(
      { seconds },
      `requests of another replica are refused: its clock differs by ${seconds} s from the one here; more than ${MAX_CLOCK_SKEW_MS / 1_000} s are not accepted`,
    )
  }
}

/** -1 for a body whose length is not known, which nobody sends here. */
function lengthOf(req: HttpRequest): number {
  const length = req.getHeader('content-length')
  return req.getHeader('transfer-encoding') === '' && /^\d{1,15}$/.test(length)
    ? Number(length)
    : req.getHeader('transfer-encoding') === '' && length === ''
      ? 0
      : -1
}
