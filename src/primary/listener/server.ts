/** The listening socket: admits each request, then hands it to the worker that owns its session. */
import { setTimeout as delay } from 'node:timers/promises'

import { AdapterError } from '../../shared/errors.ts'
import type { Config } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Recorder } from '../../shared/telemetry/recorder.ts'
import { CORRELATION_HEADER, CorrelationIds } from '../admission/correlation-id.ts'
import { CorsPolicy } from '../admission/cors.ts'
import { fileSelection, mcpSelection, readHeaders } from '../admission/headers.ts'
import type { HeaderSelection, ReadHeaders } from '../admission/headers.ts'
import type { WorkerHandle } from '../dispatch/worker-handle.ts'
import { RouteTable } from '../routes.ts'
import type { Route } from '../routes.ts'
import { CLIENT_GONE, ListenerExchange } from './exchange.ts'
import type { AdmittedRequest } from './exchange.ts'
import { Gate } from './gate.ts'
import type { Settled } from './gate.ts'
import { HttpMetrics } from './http-metrics.ts'
import { HeldRequest } from './held-request.ts'
import type { EarlyBody } from './held-request.ts'
import { MessageIntake, tooManyMessages } from './message-intake.ts'
import type { MessageReceiver } from './message-intake.ts'
import { listenOn } from './listen.ts'
import type {
  HttpRequest,
  HttpResponse,
  NativeListener,
  TemplatedApp,
  TlsOptions,
  us_listen_socket,
} from './native.ts'
import { RequestRecord } from './request-record.ts'
import type { RequestFields } from './request-record.ts'
import { OwnAnswers } from './own-answers.ts'
import type { OwnAnswer, OwnAnswerSources } from './own-answers.ts'
import { ownedId } from './owned-id.ts'
import { STRICT_TRANSPORT } from './tls.ts'
import { refuse, respond } from './whole-answer.ts'

/** What the listener needs from the rest of the replica. */
export interface ListenerPorts extends OwnAnswerSources {
  /** The worker for a session id; any worker for the empty string. Undefined while it is not ready. */
  workerFor(sessionId: string): WorkerHandle | undefined
  /** Where requests are counted; undefined where they are not. */
  readonly recorder?: Recorder | undefined
  /** Writes a line for each request; absent where nobody reads them. */
  readonly logRequest?: ((fields: RequestFields) => void) | undefined
  /** The keys of a token issuer could not be read. */
  keysFailed(error: unknown): void
}

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
  /** On the clock of `performance.now()`; 0 where requests are not counted. */
  readonly startedAtMs: number
  readonly correlationId: string
  readonly record: RequestRecord | undefined
}

/** See the file comment. */
export class Listener {
  readonly #native: NativeListener
  readonly #app: TemplatedApp
  readonly #ports: ListenerPorts
  readonly #routes: RouteTable
  readonly #gate: Gate
  readonly #own: OwnAnswers
  readonly #cors: CorsPolicy
  readonly #messages: MessageIntake
  readonly #metrics: HttpMetrics | undefined
  readonly #mcpSelections: readonly HeaderSelection[]
  readonly #serverIds: readonly string[]
  readonly #correlationIds = new CorrelationIds()
  readonly #fileSelection: HeaderSelection
  readonly #uploads = { bytes: 0 }
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
    this.#own = new OwnAnswers(ports, this.#gate)
    this.#cors = new CorsPolicy(config.core.cors, tls === null ? [] : STRICT_TRANSPORT)
    this.#messages = new MessageIntake(config.core.maxMessageBytes)
    const { recorder } = ports
    if (recorder !== undefined) {
      this.#metrics = new HttpMetrics(config, recorder)
      recorder.beforeReport(() => {
        recorder.set('adapter_http_requests_in_flight', {}, this.#inFlight)
        const { bufferedBytes } = this.#messages
        recorder.set('adapter_bytes_in_flight', { kind: 'messages' }, bufferedBytes)
        recorder.set('adapter_bytes_in_flight', { kind: 'uploads' }, this.#uploads.bytes)
      })
    }
    const credentialName = config.core.auth.headerName.toLowerCase()
    this.#mcpSelections = config.servers.map((server) =>
      mcpSelection(server.upstream.clientHeaders, credentialName),
    )
    this.#serverIds = config.servers.map(({ id }) => id)
    this.#fileSelection = fileSelection(credentialName)
    this.#app = tls === null ? native.uws.App() : native.uws.SSLApp(tls)
    this.#app.any('/*', (res, req) => this.#handle(res, req))
  }

  /** Listens; answers the port (useful with port 0). */
  async listen(host: string, port: number): Promise<number> {
    const listening = await listenOn(this.#native, this.#app, { host, port })
    this.#socket = listening.socket
    return listening.port
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
    const startedAtMs = this.#metrics === undefined ? 0 : performance.now()
    const path = req.getUrl()
    const route = this.#routes.match(path)
    const isProtocol = route.kind === 'mcp' || route.kind === 'sse' || route.kind === 'messages'
    const selection =
      (isProtocol ? this.#mcpSelections[route.serverIndex] : undefined) ?? this.#fileSelection
    const headers = readHeaders(req, selection)
    const method = req.getCaseSensitiveMethod()
    const query = req.getQuery() ?? ''
    const correlationId = this.#correlationIds.nameFor(headers.correlationId)
    const { logRequest } = this.#ports
    const record =
      logRequest && this.#recordOf(route, { headers, method, query, correlationId }, logRequest)
    const answerHeaders = [
      ...this.#cors.headersFor(headers.origin),
      CORRELATION_HEADER,
      correlationId,
    ]
    const asked: Asked = {
      route,
      headers,
      method,
      path,
      query,
      answerHeaders,
      startedAtMs,
      correlationId,
      record,
    }
    if (method === 'OPTIONS' && this.#answerPreflight(res, req, asked)) {
      this.#ended(asked, 204)
      return
    }
    const admission = this.#gate.admit(route, method, { path, query }, headers)
    if (admission.kind === 'pending') this.#hold(res, asked, admission.outcome)
    else this.#settle(res, asked, admission)
  }

  #recordOf(
    route: Route,
    asked: Pick<Asked, 'headers' | 'method' | 'query' | 'correlationId'>,
    logRequest: (fields: RequestFields) => void,
  ): RequestRecord {
    const { headers, method, query, correlationId } = asked
    const server = 'serverIndex' in route ? this.#serverIds[route.serverIndex] : undefined
    const facts = {
      correlationId,
      route: route.kind,
      server,
      method,
      sessionId: ownedId(route, query, headers),
      requestBytes: headers.contentLength,
    }
    return new RequestRecord(facts, logRequest)
  }

  /** Before anything is asked of the request: browsers send no credentials here. False when it is no preflight that is granted something. */
  #answerPreflight(
    res: HttpResponse,
    req: HttpRequest,
    { headers, correlationId }: Pick<Asked, 'headers' | 'correlationId'>,
  ): boolean {
    if (headers.problem !== undefined || headers.contentLength !== 0) return false
    const granted = this.#cors.preflight(headers.origin, {
      method: req.getHeader('access-control-request-method'),
      headers: req.getHeader('access-control-request-headers'),
    })
    if (granted === undefined) return false
    const ending = this.#drain.isDraining ? 'close' : 'keep'
    const named = [...granted, CORRELATION_HEADER, correlationId]
    return respond(res, 204, named, '', { headOnly: false, ending })
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
      else this.#ended(asked, CLIENT_GONE)
      this.#leave()
    })
  }

  /** Goes on with a request of which it is known who asks. `early`: what of its body has been read before. */
  #settle(res: HttpResponse, asked: Asked, admission: Settled, early?: EarlyBody): void {
    const { route, headers, method, path, query, answerHeaders, correlationId, record } = asked
    if (admission.kind === 'refused') {
      const { refusal } = admission
      const isOurs =
        route.kind !== 'none' &&
        route.kind !== 'health' &&
        route.kind !== 'metadata' &&
        route.kind !== 'metrics'
      // What is wrong with the framing of a request makes all that follows on its connection doubtful.
      const toCome = headers.problem === undefined ? headers.contentLength : -1
      const contentLength = early?.isWhole === true && toCome > 0 ? 0 : toCome
      const further = [...(refusal.headers ?? []), ...answerHeaders]
      const request = { method, contentLength, headers: further }
      refuse(res, refusal.error, isOurs ? route.kind : 'other', request, this.#drain)
      this.#rejected(asked, refusal.error)
      return
    }
    switch (route.kind) {
      case 'none': // refused
        return
      case 'health':
        this.#answerOwn(res, asked, this.#own.health(route.probe, headers))
        return
      case 'metrics':
        this.#answerOwn(res, asked, this.#own.metrics())
        return
      case 'metadata':
        this.#answerOwn(res, asked, this.#own.metadata(route.serverIndex, headers))
        return
      case 'mcp':
      case 'sse':
      case 'messages':
      case 'upload':
      case 'artifact': {
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
            correlationId,
            record,
          },
          { asked, sessionId: ownedId(route, query, headers), early },
        )
      }
    }
  }

  #forward(
    res: HttpResponse,
    request: AdmittedRequest,
    {
      asked,
      sessionId,
      early,
    }: { readonly asked: Asked; readonly sessionId: string; readonly early: EarlyBody | undefined },
  ): void {
    const worker = this.#ports.workerFor(sessionId)
    if (worker === undefined) {
      const error = new AdapterError(
        'ADAPTER_OVERLOADED',
        'the worker for this request is starting; repeat it shortly',
      )
      refuse(res, error, request.route, { ...request, headers: request.answerHeaders }, this.#drain)
      this.#rejected(asked, error)
      return
    }
    const isMessage = request.route === 'mcp' || request.route === 'messages'
    if (isMessage && !this.#messages.hasRoomFor(request.contentLength)) {
      const notTaken = { ...request, headers: request.answerHeaders }
      const error = tooManyMessages()
      refuse(res, error, request.route, notTaken, this.#drain)
      this.#rejected(asked, error)
      return
    }
    this.#taken++
    this.#inFlight++
    const done = (status: number): void => {
      this.#ended(asked, status)
      this.#leave()
    }
    if (isMessage && request.method === 'POST') {
      const receiver: MessageReceiver = {
        whole: (body) =>
          new ListenerExchange(res, worker, request, this.#drain, done).dispatchWhole(body),
        over: (refusal) => {
          if (refusal === undefined) this.#ended(asked, CLIENT_GONE)
          else this.#rejected(asked, refusal)
          this.#leave()
        },
      }
      this.#messages.collect(res, request, receiver, early)
      return
    }
    const exchange = new ListenerExchange(res, worker, request, this.#drain, done)
    if (request.route === 'upload' && (request.method === 'POST' || request.method === 'PUT'))
      exchange.dispatchStreaming(this.#uploads)
    else exchange.dispatchWhole(null)
  }

  /** The request is over: it is counted, and has its line in the log. */
  #ended({ route, method, startedAtMs, record }: Asked, status: number): void {
    this.#metrics?.ended(route, method, startedAtMs, status)
    if (record === undefined) return
    if (status === CLIENT_GONE) record.fails('client_gone')
    else record.answered(status)
    record.end()
  }

  #rejected(asked: Asked, error: AdapterError): void {
    this.#metrics?.rejected(asked.route, error)
    this.#ended(asked, error.status)
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

  /** Answers what no worker is asked for. A stop waits for the answer, but not for an end of such requests: probes never cease. */
  #answerOwn(res: HttpResponse, asked: Asked, answered: Promise<OwnAnswer>): void {
    let gone = false
    res.onAborted(() => {
      gone = true
    })
    this.#inFlight++
    const answer = answered.then(({ status, headers, body }) => {
      asked.record?.add(body)
      this.#ended(asked, gone ? CLIENT_GONE : status)
      if (gone) return
      respond(res, status, [...headers, ...asked.answerHeaders], body, {
        headOnly: asked.method === 'HEAD',
        ending: this.#drain.isDraining ? 'close' : 'keep',
      })
    })
    void answer.finally(this.#leave)
  }
}

/** The next turn of the event loop. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
