/** The listening socket: admits each request, then hands it to the worker that owns its session. */
import { setTimeout as delay } from 'node:timers/promises'

import { AdapterError } from '../../shared/errors.ts'
import type { Config } from '../../shared/config/config.ts'
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { CorsPolicy } from '../admission/cors.ts'
import { fileSelection, mcpSelection, readHeaders } from '../admission/headers.ts'
import type { HeaderSelection, ReadHeaders } from '../admission/headers.ts'
import type { WorkerHandle } from '../dispatch/worker-handle.ts'
import { RouteTable } from '../routes.ts'
import type { Route } from '../routes.ts'
import { ListenerExchange } from './exchange.ts'
import type { AdmittedRequest } from './exchange.ts'
import { Gate } from './gate.ts'
import type { Settled } from './gate.ts'
import { HeldRequest } from './held-request.ts'
import type { EarlyBody } from './held-request.ts'
import { MessageIntake, tooManyMessages } from './message-intake.ts'
import type { MessageReceiver } from './message-intake.ts'
import { EXCLUSIVE_PORT } from './native.ts'
import type {
  HttpRequest,
  HttpResponse,
  NativeListener,
  TemplatedApp,
  TlsOptions,
  us_listen_socket,
} from './native.ts'
import { STRICT_TRANSPORT } from './tls.ts'
import { refuse, respond } from './whole-answer.ts'

/** What the listener needs from the rest of the replica. */
export interface ListenerPorts {
  /** The worker for a session id; any worker for the empty string. Undefined while it is not ready. */
  workerFor(sessionId: string): WorkerHandle | undefined
  /** `isTrusted`: somebody asks who is known, and may see addresses and paths. */
  health(probe: Probe, isTrusted: boolean): Promise<{ status: number; body: string }>
  /** The keys of a token issuer could not be read. */
  keysFailed(error: unknown): void
}

type Probe = Extract<Route, { kind: 'health' }>['probe']

/** Requests that are held at a time until it is known who asks. */
const MAX_HELD = 256

/** A request as its head has it. */
interface Asked {
  readonly route: Route
  readonly headers: ReadHeaders
  readonly method: string
  readonly path: string
  readonly query: string
  /** Headers that go with any answer to it. */
  readonly answerHeaders: HeaderList
}

/** See the file comment. */
export class Listener {
  readonly #native: NativeListener
  readonly #app: TemplatedApp
  readonly #ports: ListenerPorts
  readonly #routes: RouteTable
  readonly #gate: Gate
  readonly #cors: CorsPolicy
  readonly #messages: MessageIntake
  readonly #mcpSelections: readonly HeaderSelection[]
  readonly #fileSelection: HeaderSelection
  readonly #drain = { isDraining: false }
  #socket: us_listen_socket | undefined
  #inFlight = 0
  #held = 0
  /** How many requests were taken since the start. */
  #taken = 0
  #whenIdle: (() => void) | undefined

  constructor(
    native: NativeListener,
    config: Config,
    tls: TlsOptions | null,
    ports: ListenerPorts,
  ) {
    this.#native = native
    this.#ports = ports
    this.#routes = new RouteTable(config)
    this.#gate = new Gate(config, (error) => ports.keysFailed(error))
    this.#cors = new CorsPolicy(config.core.cors, tls === null ? [] : STRICT_TRANSPORT)
    this.#messages = new MessageIntake(config.core.maxMessageBytes)
    const credentialName = config.core.auth.headerName.toLowerCase()
    this.#mcpSelections = config.servers.map((server) =>
      mcpSelection(server.upstream.clientHeaders, credentialName),
    )
    this.#fileSelection = fileSelection(credentialName)
    this.#app = tls === null ? native.uws.App() : native.uws.SSLApp(tls)
    this.#app.any('/*', (res, req) => this.#handle(res, req))
  }

  /** Listens; answers the port (useful with port 0). */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#app.listen(host, port, EXCLUSIVE_PORT, (socket) => {
        if (socket === false) {
          reject(
            new Error(
              `can't listen on ${host}:${port}: the address is in use, not on this machine, or the port needs privileges`,
            ),
          )
          return
        }
        this.#socket = socket
        resolve(this.#native.uws.us_socket_local_port(socket))
      })
    })
  }

  /** How many requests have no complete answer yet. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** From here on every answer ends its connection: clients that keep theirs open come over new ones, which a load balancer sends elsewhere. */
  drain(): void {
    this.#drain.isDraining = true
  }

  /** Takes no new connections; requests on open ones go on. */
  stopListening(): void {
    if (this.#socket !== undefined) this.#native.uws.us_listen_socket_close(this.#socket)
    this.#socket = undefined
  }

  /**
   * Resolves when no request is in hand and none has come for `quietMs` and a turn of the event loop, or after `limitMs`. Connections may be closed
   * then, in the same turn: nobody waits for an answer on one.
   */
  async idle(limitMs: number, quietMs: number): Promise<void> {
    const deadlineAtMs = Date.now() + limitMs
    let takenBefore: number
    do {
      await this.#answered(deadlineAtMs - Date.now())
      takenBefore = this.#taken
      if (quietMs > 0) await delay(Math.max(0, Math.min(quietMs, deadlineAtMs - Date.now())))
      // Two, because what has arrived on sockets is read between one and the next.
      await nextTurn()
      await nextTurn()
    } while (Date.now() < deadlineAtMs && (this.#inFlight > 0 || this.#taken !== takenBefore))
  }

  /** Closes all connections. */
  close(): void {
    this.stopListening()
    this.#app.close()
  }

  #handle(res: HttpResponse, req: HttpRequest): void {
    const path = req.getUrl()
    const route = this.#routes.match(path)
    const isProtocol = route.kind === 'mcp' || route.kind === 'sse' || route.kind === 'messages'
    const selection =
      (isProtocol ? this.#mcpSelections[route.serverIndex] : undefined) ?? this.#fileSelection
    const headers = readHeaders(req, selection)
    const method = req.getCaseSensitiveMethod()
    const query = req.getQuery() ?? ''
    if (method === 'OPTIONS' && this.#answerPreflight(res, req, headers)) return
    const answerHeaders = this.#cors.headersFor(headers.origin)
    const asked = { route, headers, method, path, query, answerHeaders }
    const admission = this.#gate.admit(route, method, { path, query }, headers)
    if (admission.kind === 'pending') this.#hold(res, asked, admission.outcome)
    else this.#settle(res, asked, admission)
  }

  /** Before anything is asked of the request: browsers send no credentials here. False when it is no preflight that is granted something. */
  #answerPreflight(res: HttpResponse, req: HttpRequest, headers: ReadHeaders): boolean {
    if (headers.problem !== undefined || headers.contentLength !== 0) return false
    const granted = this.#cors.preflight(headers.origin, {
      method: req.getHeader('access-control-request-method'),
      headers: req.getHeader('access-control-request-headers'),
    })
    if (granted === undefined) return false
    const ending = this.#drain.isDraining ? 'close' : 'keep'
    return respond(res, 204, granted, '', { headOnly: false, ending })
  }

  /** Keeps a request until it is known who asks. */
  #hold(res: HttpResponse, asked: Asked, outcome: Promise<Settled>): void {
    if (this.#held >= MAX_HELD) {
      const error = new AdapterError(
        'ADAPTER_OVERLOADED',
        'too many tokens are being judged; repeat the request shortly',
      )
      this.#settle(res, asked, { kind: 'refused', refusal: { error } })
      return
    }
    this.#held++
    this.#taken++
    this.#inFlight++
    const held = new HeldRequest(res)
    void outcome.then((admission) => {
      this.#held--
      const early = held.release()
      if (early !== undefined) this.#settle(res, asked, admission, early)
      this.#leave()
    })
  }

  /** Goes on with a request of which it is known who asks. `early`: what of its body has been read before. */
  #settle(res: HttpResponse, asked: Asked, admission: Settled, early?: EarlyBody): void {
    const { route, headers, method, path, query, answerHeaders } = asked
    if (admission.kind === 'refused') {
      const { refusal } = admission
      const isOurs = route.kind !== 'none' && route.kind !== 'health' && route.kind !== 'metadata'
      // What is wrong with the framing of a request makes all that follows on its connection doubtful.
      const toCome = headers.problem === undefined ? headers.contentLength : -1
      const contentLength = early?.isWhole === true && toCome > 0 ? 0 : toCome
      const further = [...(refusal.headers ?? []), ...answerHeaders]
      const request = { method, contentLength, headers: further }
      refuse(res, refusal.error, isOurs ? route.kind : 'other', request, this.#drain)
      return
    }
    switch (route.kind) {
      case 'none': // refused
        return
      case 'health':
        this.#answerHealth(res, route.probe, method === 'HEAD', asked)
        return
      case 'metadata': {
        res.onAborted(() => {})
        const head = [
          'content-type',
          'application/json',
          'cache-control',
          'max-age=300',
          'x-content-type-options',
          'nosniff',
          ...answerHeaders,
        ]
        const ending = this.#drain.isDraining ? 'close' : 'keep'
        const body = this.#gate.metadata(route.serverIndex, headers)
        respond(res, 200, head, body, { headOnly: method === 'HEAD', ending })
        return
      }
      case 'mcp':
      case 'sse':
      case 'messages':
      case 'upload':
      case 'artifact': {
        const sessionId = ownedId(route, query, headers)
        this.#forward(
          res,
          {
            route: route.kind,
            serverIndex: route.serverIndex,
            method,
            target: query === '' ? path : `${path}?${query}`,
            headers: headers.list,
            contentLength: headers.contentLength,
            answerHeaders,
            principal: admission.principal,
          },
          sessionId,
          early,
        )
      }
    }
  }

  #forward(
    res: HttpResponse,
    request: AdmittedRequest,
    sessionId: string,
    early: EarlyBody | undefined,
  ): void {
    const worker = this.#ports.workerFor(sessionId)
    if (worker === undefined) {
      const error = new AdapterError(
        'ADAPTER_OVERLOADED',
        'the worker for this request is starting; repeat it shortly',
      )
      refuse(res, error, request.route, { ...request, headers: request.answerHeaders }, this.#drain)
      return
    }
    const isMessage = request.route === 'mcp' || request.route === 'messages'
    if (isMessage && !this.#messages.hasRoomFor(request.contentLength)) {
      const notTaken = { ...request, headers: request.answerHeaders }
      refuse(res, tooManyMessages(), request.route, notTaken, this.#drain)
      return
    }
    this.#taken++
    this.#inFlight++
    if (isMessage && request.method === 'POST') {
      const receiver: MessageReceiver = {
        whole: (body) =>
          new ListenerExchange(res, worker, request, this.#drain, this.#leave).dispatchWhole(body),
        over: this.#leave,
      }
      this.#messages.collect(res, request, receiver, early)
      return
    }
    const exchange = new ListenerExchange(res, worker, request, this.#drain, this.#leave)
    if (request.route === 'upload' && (request.method === 'POST' || request.method === 'PUT'))
      exchange.dispatchStreaming()
    else exchange.dispatchWhole(null)
  }

  readonly #leave = (): void => {
    this.#inFlight--
    if (this.#inFlight === 0) this.#whenIdle?.()
  }

  /** Resolves when no request is in hand, or after `limitMs`. */
  async #answered(limitMs: number): Promise<void> {
    if (this.#inFlight === 0) return
    let limit: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve
      limit = setTimeout(resolve, Math.max(0, limitMs))
    })
    clearTimeout(limit)
  }

  /** Whether somebody asks who may see more; not found out while too many tokens are being judged. */
  async #isKnown(headers: ReadHeaders): Promise<boolean> {
    if (this.#held >= MAX_HELD) return false
    this.#held++
    try {
      return await this.#gate.knows(headers)
    } finally {
      this.#held--
    }
  }

  #answerHealth(
    res: HttpResponse,
    probe: Probe,
    headOnly: boolean,
    { headers, answerHeaders }: Pick<Asked, 'headers' | 'answerHeaders'>,
  ): void {
    let gone = false
    res.onAborted(() => {
      gone = true
    })
    const answer = async () =>
      this.#ports.health(probe, probe === 'healthz' && (await this.#isKnown(headers)))
    void answer().then(({ status, body }) => {
      if (!gone)
        respond(
          res,
          status,
          [...DATA_HEADERS, 'content-type', 'application/json', ...answerHeaders],
          body,
          { headOnly, ending: this.#drain.isDraining ? 'close' : 'keep' },
        )
    })
  }
}

/** What says which worker has to do with a request: the id of a session, or of a legacy client's stream; empty where any may serve. */
function ownedId(route: Route, query: string, headers: ReadHeaders): string {
  switch (route.kind) {
    case 'artifact':
      return route.sessionId
    case 'upload':
      // Its signature is checked by the worker.
      return /(?:^|&)mcp_upload_session=([A-Za-z0-9_-]*)/.exec(query)?.[1] ?? ''
    case 'messages':
      return /(?:^|&)sessionId=([A-Za-z0-9_.-]*)/.exec(query)?.[1] ?? ''
    case 'mcp':
      return headers.sessionId
    case 'sse':
    case 'health':
    case 'metadata':
    case 'none':
      return ''
  }
}

/** The next turn of the event loop. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
