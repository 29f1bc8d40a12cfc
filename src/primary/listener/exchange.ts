/** One client exchange on the listening side: takes the body in at the worker's pace and writes the answer at the client's. */
import { AdapterError } from '../../shared/errors.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import { ownBytes } from '../../shared/frames/channel.ts'
import type { HeaderList, RouteKind } from '../../shared/frames/frames.ts'
import type { PendingRequest, ResponseFrame, WorkerHandle } from '../dispatch/worker-handle.ts'
import { FileSender } from './file-sender.ts'
import type { HttpResponse } from './native.ts'
import { statusLine } from './status-line.ts'

/** What a request looked like once admitted. */
export interface AdmittedRequest {
  readonly route: RouteKind
  readonly serverIndex: number
  readonly method: string
  readonly target: string
  readonly headers: HeaderList
  /** Declared length of the body in bytes; -1 when none was declared. */
  readonly contentLength: number
}

/** An unread body up to this size is taken in and dropped, so that the client gets to read the answer on a connection that stays good. */
const MAX_DRAINED_BYTES = 16_777_216

/** uWebSockets.js cannot send a head without a body piece; an SSE comment is one that every client skips. */
const SSE_COMMENT = ':\n\n'

type Phase = 'awaiting' | 'streaming' | 'file' | 'done'

/** See the file comment. Owns the uWebSockets.js response until it is done; after that every call is ignored. */
export class ListenerExchange implements PendingRequest {
  readonly #res: HttpResponse
  readonly #worker: WorkerHandle
  readonly #request: AdmittedRequest
  readonly #onDone: () => void
  readonly #id: number
  #phase: Phase = 'awaiting'
  #head: { status: number; headers: HeaderList } | undefined
  #file: FileSender | undefined
  #bodyEnded = false
  #slow = false
  #readPaused = false

  /** `onDone` is called once, when the answer is complete or the connection is gone. */
  constructor(
    res: HttpResponse,
    worker: WorkerHandle,
    request: AdmittedRequest,
    onDone: () => void,
  ) {
    this.#res = res
    this.#worker = worker
    this.#request = request
    this.#onDone = onDone
    this.#id = worker.open(this)
    res.onAborted(() => this.#aborted())
    res.onWritable(() => this.#writable())
  }

  /** Sends the request with its whole body. */
  dispatchWhole(body: Uint8Array | null): void {
    this.#bodyEnded = true
    this.#sendHead(body, true)
  }

  /** Sends the head now and the body as it comes. */
  dispatchStreaming(): void {
    this.#sendHead(null, false)
    this.#res.onData((lent, isLast) => {
      if (this.#phase === 'done') return
      if (lent.byteLength > 0) {
        // The buffer is lent for this callback only.
        const chunk = new Uint8Array(lent.slice(0))
        this.#worker.send(['request.body', this.#id, chunk], chunk)
      }
      if (isLast) {
        this.#bodyEnded = true
        this.#worker.send(['request.end', this.#id])
      }
    })
  }

  receive(frame: ResponseFrame): boolean {
    if (this.#phase === 'done') return true
    switch (frame[0]) {
      case 'response.head':
        return this.#answer(frame[2], frame[3], frame[4], frame[5])
      case 'response.body':
        this.#write(frame[2])
        return false
      case 'response.end':
        this.#end()
        return true
      case 'response.reset':
        this.#finish()
        this.#res.close()
        return true
      case 'response.file':
        return this.#sendFile(
          frame[2],
          frame[3],
          { fd: frame[4], start: frame[5], length: frame[6] },
          frame[7],
        )
      case 'flow.pause':
        this.#readPaused = true
        this.#res.pause()
        return false
      case 'flow.resume':
        this.#resumeReading()
        return false
    }
  }

  fail(reason: 'worker_lost' | 'stopping'): void {
    if (this.#phase === 'done') return
    if (this.#phase !== 'awaiting') {
      this.#finish()
      this.#res.close()
      return
    }
    const error =
      reason === 'stopping'
        ? new AdapterError('ADAPTER_STOPPING', 'this replica is stopping; repeat the request')
        : new AdapterError(
            'ADAPTER_INTERNAL',
            'the worker that handled this request ended; whether the upstream received it is not known',
          )
    this.#resumeReading()
    this.#finish()
    refuse(this.#res, error, this.#request.route, { close: this.#mustClose() })
  }

  #sendHead(body: Uint8Array | null, complete: boolean): void {
    const { route, serverIndex, method, target, headers } = this.#request
    this.#worker.send(
      ['request.head', this.#id, route, serverIndex, method, target, headers, body, complete],
      body ?? undefined,
    )
  }

  #answer(
    status: number,
    headers: HeaderList,
    body: Uint8Array | string | null,
    complete: boolean,
  ): boolean {
    if (complete) {
      this.#resumeReading()
      this.#finish()
      respond(this.#res, status, headers, body ?? '', { close: this.#mustClose() })
      return true
    }
    this.#phase = 'streaming'
    this.#head = { status, headers }
    if (body !== null) this.#write(body)
    else if (isEventStream(headers)) this.#write(SSE_COMMENT)
    return false
  }

  #write(body: Uint8Array | string): void {
    let flowing = true
    this.#res.cork(() => {
      this.#writeHead()
      flowing = this.#res.write(body)
    })
    if (!flowing && !this.#slow) {
      this.#slow = true
      this.#worker.send(['flow.pause', this.#id])
    }
  }

  #writeHead(): void {
    if (this.#head === undefined) return
    writeHead(this.#res, this.#head.status, this.#head.headers)
    this.#head = undefined
  }

  #end(): void {
    this.#resumeReading()
    this.#finish()
    this.#res.cork(() => {
      this.#writeHead()
      this.#res.end(undefined, this.#mustClose())
    })
  }

  #sendFile(
    status: number,
    headers: HeaderList,
    file: { fd: number; start: number; length: number },
    headOnly: boolean,
  ): boolean {
    this.#resumeReading()
    if (headOnly || file.length === 0) {
      this.#finish()
      new FileSender(this.#res, { ...file, length: 0 }, () => {}).abort()
      this.#res.cork(() => {
        writeHead(this.#res, status, headers)
        if (headOnly) this.#res.endWithoutBody(file.length)
        else this.#res.end('')
      })
      return true
    }
    this.#phase = 'file'
    this.#res.cork(() => writeHead(this.#res, status, headers))
    this.#file = new FileSender(this.#res, file, () => this.#finish())
    this.#file.start()
    return true
  }

  #writable(): boolean {
    if (this.#slow) {
      this.#slow = false
      this.#worker.send(['flow.resume', this.#id])
    }
    return true
  }

  #aborted(): void {
    if (this.#phase === 'done') return
    this.#file?.abort()
    this.#finish()
    this.#worker.abort(this.#id)
  }

  /** Whether the connection can't be used for another request because too much of this one's body is still to come. */
  #mustClose(): boolean {
    return !this.#bodyEnded && !canDrain(this.#request.contentLength)
  }

  /** Reading is paused for the connection, not for the request: left paused, the connection would never see its next request. */
  #resumeReading(): void {
    if (!this.#readPaused) return
    this.#readPaused = false
    this.#res.resume()
  }

  #finish(): void {
    if (this.#phase === 'done') return
    this.#phase = 'done'
    this.#onDone()
  }
}

/** Whether a body that nobody wants is small enough to be taken in and dropped; -1 stands for no declared length. */
export function canDrain(contentLength: number): boolean {
  return contentLength >= 0 && contentLength <= MAX_DRAINED_BYTES
}

/** Writes a whole answer. `close` ends the connection after it: for requests whose body nobody will read. */
export function respond(
  res: HttpResponse,
  status: number,
  headers: HeaderList,
  body: Uint8Array | string,
  options: { close: boolean },
): void {
  res.cork(() => {
    writeHead(res, status, headers)
    // RFC 9110 §8.6: no Content-Length with 204 and 304.
    if (status === 204 || status === 304) res.endWithoutBody(undefined, options.close)
    else res.end(body, options.close)
  })
}

/** Answers with an error of ours, in the format of the route. */
export function refuse(
  res: HttpResponse,
  error: AdapterError,
  route: RouteKind | 'other',
  options: { close: boolean; headers?: HeaderList },
): void {
  const body = route === 'mcp' ? error.toJsonRpc(null) : error.toJson()
  const headers = [
    'content-type',
    'application/json',
    ...retryHint(error.code),
    ...(options.headers ?? []),
  ]
  respond(res, error.status, headers, body, options)
}

function retryHint(code: ErrorCode): HeaderList {
  return code === 'ADAPTER_STOPPING' || code === 'ADAPTER_OVERLOADED' ? ['retry-after', '1'] : []
}

function writeHead(res: HttpResponse, status: number, headers: HeaderList): void {
  res.writeStatus(statusLine(status))
  for (let i = 0; i + 1 < headers.length; i += 2)
    res.writeHeader(headers[i] ?? '', headers[i + 1] ?? '')
}

function isEventStream(headers: HeaderList): boolean {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === 'content-type') return (headers[i + 1] ?? '').startsWith('text/event-stream')
  }
  return false
}

/** Copies what uWebSockets.js lends. */
export function copyLent(lent: ArrayBuffer): Uint8Array {
  return ownBytes(new Uint8Array(lent.slice(0)))
}
