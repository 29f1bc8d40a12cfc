/** The listening socket: admits each request, then hands it to the worker that owns its session. */
import { AdapterError } from '../../shared/errors.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import { cheapestBytes } from '../../shared/frames/channel.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Config } from '../../shared/config/config.ts'
import { TokenCheck } from '../admission/credentials.ts'
import { accepts, fileSelection, mcpSelection, readHeaders } from '../admission/headers.ts'
import type { HeaderSelection, ReadHeaders } from '../admission/headers.ts'
import { OriginPolicy } from '../admission/origin.ts'
import type { WorkerHandle } from '../dispatch/worker-handle.ts'
import { RouteTable } from '../routes.ts'
import type { Route } from '../routes.ts'
import { BodyBuffer } from './body-buffer.ts'
import { canDrain, errorAnswer, ListenerExchange, respond } from './exchange.ts'
import type { AdmittedRequest } from './exchange.ts'
import { LingeringAnswer } from './lingering-answer.ts'
import { EXCLUSIVE_PORT } from './native.ts'
import type {
  HttpRequest,
  HttpResponse,
  NativeListener,
  TemplatedApp,
  us_listen_socket,
} from './native.ts'

/** Bodies held in memory at once over all requests, before they are handed on; beyond it, new ones are answered 503. */
const MAX_BUFFERED_BYTES = 268_435_456

/** What the listener needs from the rest of the replica. */
export interface ListenerPorts {
  /** The worker for a session id; any worker for the empty string. Undefined while it is not ready. */
  workerFor(sessionId: string): WorkerHandle | undefined
  health(probe: 'livez' | 'readyz' | 'healthz'): Promise<{ status: number; body: string }>
}

interface Refusal {
  readonly error: AdapterError
  /** Further response headers. */
  readonly headers?: HeaderList
}

/** See the file comment. */
export class Listener {
  readonly #native: NativeListener
  readonly #app: TemplatedApp
  readonly #ports: ListenerPorts
  readonly #routes: RouteTable
  readonly #origins: OriginPolicy
  readonly #token: TokenCheck
  readonly #credentialName: string
  readonly #maxMessageBytes: number
  readonly #mcpSelections: readonly HeaderSelection[]
  readonly #fileSelection: HeaderSelection
  #socket: us_listen_socket | undefined
  #bufferedBytes = 0
  #inFlight = 0
  #whenIdle: (() => void) | undefined

  constructor(native: NativeListener, config: Config, ports: ListenerPorts) {
    this.#native = native
    this.#ports = ports
    this.#routes = new RouteTable(config)
    this.#origins = new OriginPolicy(config.core)
    const { auth } = config.core
    this.#credentialName = auth.headerName.toLowerCase()
    this.#token = new TokenCheck(auth.enabled ? auth.token : null)
    this.#maxMessageBytes = config.core.maxMessageBytes
    this.#mcpSelections = config.servers.map((server) =>
      mcpSelection(
        server.upstream.clientHeaders.passthrough.map((name) => name.toLowerCase()),
        this.#credentialName,
      ),
    )
    this.#fileSelection = fileSelection(this.#credentialName)
    this.#app = native.uws.App()
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

  /** Takes no new connections; requests on open ones go on. */
  stopListening(): void {
    if (this.#socket !== undefined) this.#native.uws.us_listen_socket_close(this.#socket)
    this.#socket = undefined
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
    this.stopListening()
    this.#app.close()
  }

  #handle(res: HttpResponse, req: HttpRequest): void {
    const path = req.getUrl()
    const route = this.#routes.match(path)
    const selection =
      (route.kind === 'mcp' ? this.#mcpSelections[route.serverIndex] : undefined) ??
      this.#fileSelection
    const headers = readHeaders(req, selection)
    const method = req.getCaseSensitiveMethod()
    const query = req.getQuery() ?? ''
    const refusal = this.#refusal(route, method, { path, query }, headers)
    if (refusal !== undefined) {
      const kind = route.kind === 'health' || route.kind === 'none' ? 'other' : route.kind
      // What is wrong with the framing of a request makes all that follows on its connection doubtful.
      const contentLength = headers.problem === undefined ? headers.contentLength : -1
      refuse(res, refusal.error, kind, { method, contentLength, headers: refusal.headers ?? [] })
      return
    }
    switch (route.kind) {
      case 'none': // refused
        return
      case 'health':
        this.#answerHealth(res, route.probe, method === 'HEAD')
        return
      case 'mcp':
      case 'upload':
      case 'artifact': {
        const sessionId =
          route.kind === 'artifact'
            ? route.sessionId
            : route.kind === 'upload'
              ? uploadSession(query)
              : headers.sessionId
        this.#forward(
          res,
          {
            route: route.kind,
            serverIndex: route.serverIndex,
            method,
            target: query === '' ? path : `${path}?${query}`,
            headers: headers.list,
            contentLength: headers.contentLength,
          },
          sessionId,
        )
      }
    }
  }

  #refusal(
    route: Route,
    method: string,
    place: { readonly path: string; readonly query: string },
    headers: ReadHeaders,
  ): Refusal | undefined {
    const { path, query } = place
    if (headers.problem !== undefined) return refuseWith('ADAPTER_HEADER_INVALID', headers.problem)
    if (route.kind === 'none')
      return refuseWith('ADAPTER_ROUTE_UNKNOWN', `nothing is served at ${printable(path)}`)
    if (route.kind === 'health') return bodyRefusal(method, headers)
    if (!this.#origins.acceptsHost(headers.host)) {
      return refuseWith(
        'ADAPTER_HOST_REFUSED',
        `host ${printable(headers.host)} is not served here; if it should be, set core.public_base_url or list it in core.allowed_hosts`,
      )
    }
    if (headers.origin !== '' && !this.#origins.acceptsOrigin(headers.origin)) {
      return refuseWith(
        'ADAPTER_ORIGIN_REFUSED',
        `origin ${printable(headers.origin)} is not allowed; if it should be, list it in core.allowed_origins`,
      )
    }
    if (route.kind === 'upload') {
      return method === 'POST' || method === 'PUT' ? undefined : bodyRefusal(method, headers)
    }
    // A download's signature decides alone. Without one, the session's id is not enough where a token is asked for: signed URLs show it.
    const needsToken = route.kind === 'mcp' || !query.includes('mcp_artifact_sig=')
    if (needsToken && !this.#token.accepts(headers.credential)) {
      return refuseWith(
        'ADAPTER_UNAUTHORIZED',
        `a valid token is required in header ${this.#credentialName}`,
      )
    }
    return route.kind === 'mcp'
      ? this.#protocolRefusal(method, headers)
      : bodyRefusal(method, headers)
  }

  /** What Streamable HTTP asks of a request's method and headers (2025-11-25, basic/transports). */
  #protocolRefusal(method: string, headers: ReadHeaders): Refusal | undefined {
    switch (method) {
      case 'POST':
        if (mediaType(headers.contentType) !== 'application/json') {
          return refuseWith(
            'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
            'the body of a POST must have content-type application/json',
          )
        }
        if (
          !accepts(headers.accept, 'application/json') &&
          !accepts(headers.accept, 'text/event-stream')
        ) {
          return refuseWith(
            'ADAPTER_NOT_ACCEPTABLE',
            'accept must list application/json and text/event-stream',
          )
        }
        if (headers.contentLength > this.#maxMessageBytes)
          return refuseWith('ADAPTER_MESSAGE_TOO_LARGE', this.#tooLarge())
        return undefined
      case 'GET':
        return accepts(headers.accept, 'text/event-stream')
          ? bodyRefusal(method, headers)
          : refuseWith(
              'ADAPTER_NOT_ACCEPTABLE',
              'a GET opens a stream: accept must list text/event-stream',
            )
      case 'DELETE':
        return bodyRefusal(method, headers)
      default:
        return refuseWith(
          'ADAPTER_METHOD_NOT_ALLOWED',
          `${printable(method)} is not a method of this endpoint`,
          ['allow', 'GET, POST, DELETE'],
        )
    }
  }

  #forward(res: HttpResponse, request: AdmittedRequest, sessionId: string): void {
    const worker = this.#ports.workerFor(sessionId)
    const refusal =
      worker === undefined
        ? new AdapterError(
            'ADAPTER_OVERLOADED',
            'the worker for this request is starting; repeat it shortly',
          )
        : this.#bufferedBytes + Math.max(0, request.contentLength) > MAX_BUFFERED_BYTES &&
            request.route === 'mcp'
          ? new AdapterError(
              'ADAPTER_OVERLOADED',
              'too many large messages at once; repeat the request shortly',
            )
          : undefined
    if (worker === undefined || refusal !== undefined) {
      const error = refusal ?? new AdapterError('ADAPTER_OVERLOADED', 'no worker')
      refuse(res, error, request.route, { ...request, headers: [] })
      return
    }
    this.#inFlight++
    if (request.route === 'mcp' && request.method === 'POST') {
      this.#collect(res, worker, request)
      return
    }
    const exchange = new ListenerExchange(res, worker, request, this.#leave)
    if (request.route === 'upload' && (request.method === 'POST' || request.method === 'PUT'))
      exchange.dispatchStreaming()
    else exchange.dispatchWhole(null)
  }

  /** Collects a JSON-RPC body, which a worker needs whole, up to the limit. */
  #collect(res: HttpResponse, worker: WorkerHandle, request: AdmittedRequest): void {
    const { contentLength } = request
    const parts = new BodyBuffer(contentLength < 0 ? this.#maxMessageBytes : contentLength)
    let size = 0
    let isOver = false
    let lingering: LingeringAnswer | undefined
    const giveUp = (): void => {
      isOver = true
      parts.take()
      this.#bufferedBytes -= size
      this.#leave()
    }
    res.onAborted(() => {
      lingering?.abort()
      if (!isOver) giveUp()
    })
    res.onData((lent, isLast) => {
      lingering?.take(lent.byteLength, isLast)
      if (isOver) return
      size += lent.byteLength
      this.#bufferedBytes += lent.byteLength
      const refusal = this.#bodyRefusal(size)
      if (refusal !== undefined) {
        giveUp()
        const { status, headers, body } = errorAnswer(refusal, 'mcp')
        if (isLast) respond(res, status, headers, body, { headOnly: false, close: true })
        else lingering = new LingeringAnswer(res, status, headers, body)
        return
      }
      if (!isLast) {
        parts.append(new Uint8Array(lent))
        return
      }
      isOver = true
      this.#bufferedBytes -= size
      // Through a Buffer, which `cheapestBytes` never keeps: the memory is lent for this callback only.
      let body = parts.length === 0 ? cheapestBytes(Buffer.from(lent)) : undefined
      if (body === undefined) {
        parts.append(new Uint8Array(lent))
        body = parts.take()
      }
      new ListenerExchange(res, worker, request, this.#leave).dispatchWhole(body)
    })
  }

  #bodyRefusal(size: number): AdapterError | undefined {
    if (size > this.#maxMessageBytes)
      return new AdapterError('ADAPTER_MESSAGE_TOO_LARGE', this.#tooLarge())
    return this.#bufferedBytes > MAX_BUFFERED_BYTES
      ? new AdapterError(
          'ADAPTER_OVERLOADED',
          'too many large messages at once; repeat the request shortly',
        )
      : undefined
  }

  readonly #leave = (): void => {
    this.#inFlight--
    if (this.#inFlight === 0) this.#whenIdle?.()
  }

  #answerHealth(res: HttpResponse, probe: 'livez' | 'readyz' | 'healthz', headOnly: boolean): void {
    let gone = false
    res.onAborted(() => {
      gone = true
    })
    void this.#ports.health(probe).then(({ status, body }) => {
      if (!gone)
        respond(
          res,
          status,
          ['content-type', 'application/json', 'cache-control', 'no-store'],
          body,
          { headOnly, close: false },
        )
    })
  }

  #tooLarge(): string {
    return `the message is larger than core.max_message_bytes (${this.#maxMessageBytes} bytes); send files through an upload URL`
  }
}

function refuseWith(code: ErrorCode, message: string, headers?: HeaderList): Refusal {
  return { error: new AdapterError(code, message), ...(headers === undefined ? {} : { headers }) }
}

/** Answers a request that goes no further with an error of ours, whatever body it may still send. */
function refuse(
  res: HttpResponse,
  error: AdapterError,
  route: 'mcp' | 'upload' | 'artifact' | 'other',
  request: {
    readonly method: string
    readonly contentLength: number
    readonly headers: readonly string[]
  },
): void {
  const { status, headers, body } = errorAnswer(error, route)
  const all = [...headers, ...request.headers]
  if (canDrain(request.contentLength) || request.method === 'HEAD') {
    res.onAborted(() => {})
    respond(res, status, all, body, {
      headOnly: request.method === 'HEAD',
      close: !canDrain(request.contentLength),
    })
    return
  }
  const lingering = new LingeringAnswer(res, status, all, body)
  res.onAborted(() => lingering.abort())
  res.onData((lent, isLast) => lingering.take(lent.byteLength, isLast))
}

/** A body that is not asked for is dropped when it is small; nobody has to take in an endless one. */
function bodyRefusal(method: string, headers: ReadHeaders): Refusal | undefined {
  return canDrain(headers.contentLength)
    ? undefined
    : refuseWith('ADAPTER_HEADER_INVALID', `${printable(method)} takes no body here`)
}

/** The session that an upload URL names; its signature is checked by the worker. */
function uploadSession(query: string): string {
  return /(?:^|&)mcp_upload_session=([A-Za-z0-9_-]*)/.exec(query)?.[1] ?? ''
}

function mediaType(contentType: string): string {
  const semicolon = contentType.indexOf(';')
  return (semicolon === -1 ? contentType : contentType.slice(0, semicolon)).trim().toLowerCase()
}

/** Client text in a message: short, without control characters. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what must go
  return JSON.stringify(text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?').slice(0, 100))
}
