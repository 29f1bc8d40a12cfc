/** One client exchange on the listening side: takes the body in at the worker's pace and writes the answer at the client's. */
import { AdapterError } from '../../shared/errors.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import type { HeaderList, RouteKind } from '../../shared/frames/frames.ts'
import type { PendingRequest, ResponseFrame, WorkerHandle } from '../dispatch/worker-handle.ts'
import { FileSender } from './file-sender.ts'
import { LingeringAnswer } from './lingering-answer.ts'
import type { HttpResponse } from './native.ts'
import { BodyBuffer } from './body-buffer.ts'
import { PacedWriter } from './paced-writer.ts'
import { writeHead } from './response-head.ts'

/** What a request looked like once admitted. */
export interface AdmittedRequest {
  readonly route: RouteKind
  readonly serverIndex: number
  readonly method: string
  readonly target: string
  readonly headers: HeaderList
  /** Length of the body in bytes; -1 when it comes in chunks, its length unknown. */
  readonly contentLength: number
}

/** An unread body up to this size is taken in and dropped, so that the client gets to read the answer on a connection that stays good. */
const MAX_DRAINED_BYTES = 16_777_216

/** uWebSockets.js cannot send a head without a body piece; an SSE comment is one that every client skips. */
const SSE_COMMENT = ':\n\n'

/** Largest whole body that is written together with its head, in characters of at most two bytes. */
const MAX_CORKED_BYTES = 4_096

/** A body is handed on in pieces of about this size. */
const FRAME_BYTES = 65_536

/** Bytes of a request's body that may be on their way to the worker. */
const MAX_UNDER_WAY_BYTES = 1_048_576

/** A worker hears that its bytes have arrived each time this many have. */
const ACKNOWLEDGE_BYTES = 262_144

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
  #lingering: LingeringAnswer | undefined
  #bodyEnded = false
  readonly #collected = new BodyBuffer()
  #readPaused = false
  /** Bytes of the request's body that the worker has not taken in. */
  #underWay = 0
  #isHeld = false
  #largeIsOpen = false
  #unacknowledged = 0
  readonly #writer: PacedWriter

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
    this.#writer = new PacedWriter(res, {
      pause: () => worker.send(['flow.pause', this.#id]),
      resume: () => worker.send(['flow.resume', this.#id]),
      overflow: () => this.#cut(),
    })
    res.onAborted(() => this.#aborted())
    res.onWritable(() => {
      if (this.#phase === 'streaming') this.#writer.writable()
      return true
    })
  }

  /** Sends the request with its whole body. */
  dispatchWhole(body: Uint8Array | string | null): void {
    this.#bodyEnded = true
    this.#sendHead(body, true)
  }

  /** Sends the head now and the body as it comes. */
  dispatchStreaming(): void {
    this.#sendHead(null, false)
    this.#res.onData((lent, isLast) => {
      this.#lingering?.take(lent.byteLength, isLast)
      if (this.#phase === 'done') return
      this.#takeIn(lent)
      if (isLast) {
        this.#sendCollected()
        this.#bodyEnded = true
        this.#worker.send(['request.end', this.#id])
      }
    })
  }

  /** Copies what is lent for this callback only. Small pieces are collected to the end of the turn: a frame costs more than it may hold. */
  #takeIn(lent: ArrayBuffer): void {
    if (lent.byteLength === 0) return
    if (this.#collected.length === 0) this.#worker.beforeFlush(this.#sendCollected)
    this.#collected.append(new Uint8Array(lent))
    if (this.#collected.length >= FRAME_BYTES) this.#sendCollected()
  }

  readonly #sendCollected = (): void => {
    if (this.#phase === 'done' || this.#collected.length === 0) return
    const chunk = this.#collected.take()
    this.#underWay += chunk.byteLength
    this.#worker.send(['request.body', this.#id, chunk], chunk)
    this.#holdOrRead()
  }

  /** Reads from the client only while the worker wants more and has taken in what it was sent. */
  #holdOrRead(): void {
    const mustHold = this.#readPaused || this.#underWay > MAX_UNDER_WAY_BYTES
    if (mustHold === this.#isHeld) return
    this.#isHeld = mustHold
    if (mustHold) this.#res.pause()
    else this.#res.resume()
  }

  receive(frame: ResponseFrame): boolean {
    if (this.#phase === 'done') return true
    switch (frame[0]) {
      case 'response.head':
        return this.#answer(frame[2], frame[3], frame[4], frame[5])
      case 'response.body':
        this.#acknowledge(frame[2].byteLength)
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
        this.#holdOrRead()
        return false
      case 'flow.resume':
        this.#readPaused = false
        this.#holdOrRead()
        return false
      case 'flow.acknowledge':
        this.#underWay -= frame[2]
        this.#holdOrRead()
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
    const { status, headers, body } = errorAnswer(error, this.#request.route)
    this.#answerWhole(status, headers, body)
  }

  #sendHead(body: Uint8Array | string | null, complete: boolean): void {
    const { route, serverIndex, method, target, headers } = this.#request
    this.#worker.send(
      ['request.head', this.#id, route, serverIndex, method, target, headers, body, complete],
      body instanceof Uint8Array ? body : undefined,
    )
  }

  #answer(
    status: number,
    headers: HeaderList,
    body: Uint8Array | string | null,
    complete: boolean,
  ): boolean {
    if (complete) {
      this.#answerWhole(status, headers, body ?? '')
      return true
    }
    this.#phase = 'streaming'
    this.#head = { status, headers }
    if (body !== null) this.#write(body)
    else if (startsWithComment(headers)) this.#write(SSE_COMMENT)
    return false
  }

  #answerWhole(status: number, headers: HeaderList, body: Uint8Array | string): void {
    this.#resumeReading()
    this.#phase = 'done'
    if (this.#bodyEnded || body.length === 0 || canDrain(this.#request.contentLength)) {
      const isSent = respond(this.#res, status, headers, body, {
        headOnly: this.#request.method === 'HEAD',
        close: this.#mustClose(),
        onSent: () => this.#largeSent(),
      })
      if (isSent) this.#onDone()
      else this.#largeIsOpen = true
      return
    }
    this.#lingering = new LingeringAnswer(this.#res, status, headers, body)
    this.#onDone()
  }

  /** A large answer counts as in hand until it has left, or the client has. */
  #largeSent(): void {
    if (!this.#largeIsOpen) return
    this.#largeIsOpen = false
    this.#onDone()
  }

  #write(body: Uint8Array | string): void {
    this.#writer.write(body, () => this.#writeHead())
  }

  /** Lets the worker send on: what it may have under way is limited, so that no queue between the threads grows. */
  #acknowledge(bytes: number): void {
    this.#unacknowledged += bytes
    if (this.#unacknowledged < ACKNOWLEDGE_BYTES) return
    this.#worker.send(['flow.acknowledge', this.#id, this.#unacknowledged])
    this.#unacknowledged = 0
  }

  #writeHead(): void {
    if (this.#head === undefined) return
    const { status, headers } = this.#head
    // The client closes then; uWebSockets.js can do it by itself only after an answer that was written in one piece.
    writeHead(this.#res, status, this.#mustClose() ? [...headers, 'connection', 'close'] : headers)
    this.#head = undefined
  }

  #end(): void {
    this.#writer.whenSent(() => {
      if (this.#phase === 'done') return
      this.#resumeReading()
      this.#finish()
      this.#res.cork(() => {
        this.#writeHead()
        this.#res.end()
      })
    })
  }

  /** The client can't be served any further: only a cut connection tells it. */
  #cut(): void {
    this.#finish()
    this.#res.close()
    this.#worker.abort(this.#id)
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
        if (headOnly) endWithoutBody(this.#res, file.length, false)
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

  #aborted(): void {
    this.#lingering?.abort()
    this.#largeSent()
    if (this.#phase === 'done') return
    this.#file?.abort()
    this.#finish()
    this.#worker.abort(this.#id)
  }

  /**
   * Whether the connection can't be used for another request: too much of this one's body is still to come, or it came in chunks, whose trailers
   * uWebSockets.js would read as the next request.
   */
  #mustClose(): boolean {
    const { contentLength } = this.#request
    return contentLength === -1 || (!this.#bodyEnded && !canDrain(contentLength))
  }

  /** Reading is paused for the connection, not for the request: left paused, the connection would never see its next request. */
  #resumeReading(): void {
    this.#readPaused = false
    this.#underWay = 0
    this.#holdOrRead()
  }

  #finish(): void {
    if (this.#phase === 'done') return
    this.#phase = 'done'
    this.#onDone()
  }
}

/** Whether a body that nobody wants is small enough to be taken in and dropped; -1 stands for an unknown length. */
export function canDrain(contentLength: number): boolean {
  return contentLength >= 0 && contentLength <= MAX_DRAINED_BYTES
}

/** Writes a whole answer; true when it has left or will by itself, false when `onSent` tells so later. `headOnly`: to a HEAD request, which gets no body (RFC 9110 §9.3.2). `close` ends the connection after it. */
export function respond(
  res: HttpResponse,
  status: number,
  headers: HeaderList,
  body: Uint8Array | string,
  options: { headOnly: boolean; close: boolean; onSent?: () => void },
): boolean {
  let isLarge = false
  res.cork(() => {
    writeHead(res, status, headers)
    // RFC 9110 §8.6: no Content-Length with 204 and 304.
    if (status === 204 || status === 304) endWithoutBody(res, undefined, options.close)
    else if (options.headOnly) endWithoutBody(res, Buffer.byteLength(body), options.close)
    else if (body.length <= MAX_CORKED_BYTES) res.end(body, options.close)
    else {
      if (options.close) res.writeHeader('connection', 'close')
      isLarge = true
    }
  })
  if (!isLarge) return true
  return endLarge(
    res,
    typeof body === 'string' ? Buffer.from(body) : body,
    options.onSent ?? (() => {}),
  )
}

/** Everything goes in as a header: with any argument, one of the builds announces a body of its own and waits for it. */
function endWithoutBody(
  res: HttpResponse,
  contentLength: number | undefined,
  close: boolean,
): void {
  if (contentLength !== undefined) res.writeHeader('content-length', String(contentLength))
  if (close) res.writeHeader('connection', 'close')
  res.endWithoutBody()
}

/** An error of ours, in the format of the route. */
export function errorAnswer(
  error: AdapterError,
  route: RouteKind | 'other',
): { status: number; headers: HeaderList; body: string } {
  const body = route === 'mcp' ? error.toJsonRpc(null) : error.toJson()
  const headers = ['content-type', 'application/json', ...retryHint(error.code)]
  return { status: error.status, headers, body }
}

function retryHint(code: ErrorCode): HeaderList {
  return code === 'ADAPTER_STOPPING' || code === 'ADAPTER_OVERLOADED' ? ['retry-after', '1'] : []
}

/** Whether a comment may go first: in an event stream, unless its bytes are compressed. */
function startsWithComment(headers: HeaderList): boolean {
  const type = headerValue(headers, 'content-type')
  return (
    type?.startsWith('text/event-stream') === true &&
    headerValue(headers, 'content-encoding') === undefined
  )
}

function headerValue(headers: HeaderList, name: string): string | undefined {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1]
  return undefined
}

/**
 * Ends a response with a body too large for uWebSockets.js's cork buffer (see `PacedWriter`): `tryEnd` leaves what it can't take with us.
 */
function endLarge(res: HttpResponse, body: Uint8Array, onSent: () => void): boolean {
  let offset = res.getWriteOffset()
  const start = offset
  let isComplete = false
  const send = (): boolean => {
    let accepted = false
    res.cork(() => {
      ;[accepted, isComplete] = res.tryEnd(body.subarray(offset - start), body.byteLength)
    })
    return accepted
  }
  res.onWritable((written) => {
    offset = written
    const accepted = send()
    if (isComplete) onSent()
    return accepted
  })
  send()
  return isComplete
}
