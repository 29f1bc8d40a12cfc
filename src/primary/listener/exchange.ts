/** One client exchange on the listening side: takes the body in at the worker's pace and writes the answer at the client's. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList, RouteKind } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import type { PendingRequest, ResponseFrame, WorkerHandle } from '../dispatch/worker-handle.ts'
import { BodyIntake } from './body-intake.ts'
import type { BytesUnderWay } from './body-intake.ts'
import { FileSender } from './file-sender.ts'
import { canDrain, LingeringAnswer } from './lingering-answer.ts'
import type { HttpResponse } from './native.ts'
import { PacedWriter } from './paced-writer.ts'
import type { RequestRecord } from './request-record.ts'
import { writeHead } from './response-head.ts'
import { endWithoutBody, errorAnswer, respond } from './whole-answer.ts'
import type { Drain, Ending } from './whole-answer.ts'

/** What a request looked like once admitted. */
export interface AdmittedRequest {
  readonly route: RouteKind
  readonly serverIndex: number
  readonly method: string
  readonly target: string
  readonly headers: HeaderList
  /** Length of the body in bytes; -1 when it comes in chunks, its length unknown. */
  readonly contentLength: number
  /** Headers that go with any answer to it. */
  readonly answerHeaders: HeaderList
  /** Who asks; see `Gate`. */
  readonly principal: string
  readonly correlationId: string
  /** Undefined where there is no log line for each request. */
  readonly record: RequestRecord | undefined
}

/** uWebSockets.js cannot send a head without a body piece; an SSE comment is one that every client skips. */
const SSE_COMMENT = ':\n\n'

/** A worker hears that its bytes have arrived each time this many have. */
const ACKNOWLEDGE_BYTES = 262_144

/** Stands for the status of an answer that never began, because the client left. */
export const CLIENT_GONE = 499

type Phase = 'awaiting' | 'streaming' | 'file' | 'done'

/** See the file comment. Owns the uWebSockets.js response until it is done; after that every call is ignored. */
export class ListenerExchange implements PendingRequest {
  readonly #res: HttpResponse
  readonly #worker: WorkerHandle
  readonly #request: AdmittedRequest
  readonly #drain: Drain
  readonly #onDone: (status: number) => void
  readonly #record: RequestRecord | undefined
  readonly #id: number
  #phase: Phase = 'awaiting'
  #head: { status: number; headers: HeaderList } | undefined
  /** Of the answer; as long as there is none, that its client left without one. */
  #status = CLIENT_GONE
  #file: FileSender | undefined
  #lingering: LingeringAnswer | undefined
  #bodyEnded = false
  #intake: BodyIntake | undefined
  #largeIsOpen = false
  #unacknowledged = 0
  readonly #writer: PacedWriter

  /** `onDone` is called once, when the answer is complete or the connection is gone; `CLIENT_GONE` is the status of one that had not begun. */
  constructor(
    res: HttpResponse,
    worker: WorkerHandle,
    request: AdmittedRequest,
    drain: Drain,
    onDone: (status: number) => void,
  ) {
    this.#res = res
    this.#worker = worker
    this.#request = request
    this.#drain = drain
    const { record } = request
    this.#record = record
    record?.handedTo(worker.index)
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

  /** Sends the head now and the body as it comes; what of it is under way is added to `all`. */
  dispatchStreaming(all: BytesUnderWay): void {
    this.#sendHead(null, false)
    const intake = new BodyIntake(this.#res, this.#worker, this.#id, all)
    this.#intake = intake
    this.#res.onData((lent, isLast) => {
      this.#lingering?.take(lent.byteLength, isLast)
      if (this.#phase === 'done') return
      intake.take(lent)
      if (isLast) {
        intake.end()
        this.#bodyEnded = true
      }
    })
  }

  receive(frame: ResponseFrame): boolean {
    if (this.#phase === 'done') return true
    switch (frame[0]) {
      case 'response.note':
        this.#record?.note(frame[2], frame[3])
        return false
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
        this.#record?.fails('cut')
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
        this.#intake?.pause()
        return false
      case 'flow.resume':
        this.#intake?.resume()
        return false
      case 'flow.acknowledge':
        this.#intake?.acknowledge(frame[2])
        return false
    }
  }

  fail(reason: 'worker_lost' | 'stopping'): void {
    if (this.#phase === 'done') return
    if (this.#phase !== 'awaiting') {
      this.#record?.fails('cut')
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
    const { route, serverIndex, method, target, headers, principal, correlationId } = this.#request
    this.#worker.send(
      [
        'request.head',
        this.#id,
        route,
        serverIndex,
        method,
        target,
        headers,
        body,
        complete,
        principal,
        correlationId,
      ],
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
    this.#status = status
    this.#record?.answered(status, headerValue(headers, 'mcp-session-id'))
    this.#head = { status, headers }
    if (body !== null) this.#write(body)
    else if (startsWithComment(headers)) this.#write(SSE_COMMENT)
    return false
  }

  #answerWhole(status: number, own: HeaderList, body: Uint8Array | string): void {
    const headers = this.#withAnswerHeaders(own)
    this.#record?.answered(status, headerValue(own, 'mcp-session-id'))
    this.#record?.add(body)
    this.#intake?.release()
    this.#phase = 'done'
    this.#status = status
    if (this.#bodyEnded || body.length === 0 || canDrain(this.#request.contentLength)) {
      const isSent = respond(this.#res, status, headers, body, {
        headOnly: this.#request.method === 'HEAD',
        ending: this.#ending(),
        onSent: () => this.#largeSent(),
      })
      if (isSent) this.#onDone(status)
      else this.#largeIsOpen = true
      return
    }
    this.#lingering = new LingeringAnswer(this.#res, status, headers, body)
    this.#onDone(status)
  }

  /** A large answer counts as in hand until it has left, or the client has. */
  #largeSent(): void {
    if (!this.#largeIsOpen) return
    this.#largeIsOpen = false
    this.#onDone(this.#status)
  }

  #write(body: Uint8Array | string): void {
    this.#record?.add(body)
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
    writeHead(this.#res, status, this.#withEnding(headers))
    this.#head = undefined
  }

  #end(): void {
    this.#writer.whenSent(() => {
      if (this.#phase === 'done') return
      this.#intake?.release()
      this.#finish()
      this.#res.cork(() => {
        this.#writeHead()
        this.#res.end()
      })
    })
  }

  /** The client can't be served any further: only a cut connection tells it. */
  #cut(): void {
    this.#record?.fails('cut')
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
    this.#intake?.release()
    this.#status = status
    this.#record?.answered(status)
    if (!headOnly) this.#record?.add(file.length)
    if (headOnly || file.length === 0) {
      this.#finish()
      new FileSender(this.#res, { ...file, length: 0 }, () => {}).abort()
      this.#res.cork(() => {
        writeHead(this.#res, status, this.#withEnding(headers))
        if (headOnly) endWithoutBody(this.#res, file.length, 'keep')
        else this.#res.end('')
      })
      return true
    }
    this.#phase = 'file'
    this.#res.cork(() => writeHead(this.#res, status, this.#withEnding(headers)))
    this.#file = new FileSender(this.#res, file, (isComplete) => {
      if (!isComplete) this.#record?.fails('cut')
      this.#finish()
    })
    this.#file.start()
    return true
  }

  #aborted(): void {
    this.#lingering?.abort()
    if (this.#phase !== 'done' || this.#largeIsOpen) this.#record?.fails('client_gone')
    this.#largeSent()
    if (this.#phase === 'done') return
    this.#file?.abort()
    this.#finish()
    this.#worker.abort(this.#id)
  }

  /** The client closes then; uWebSockets.js can do it by itself only after an answer that was written in one piece. */
  #withEnding(own: HeaderList): HeaderList {
    const headers = this.#withAnswerHeaders(own)
    return this.#ending() === 'keep' ? headers : [...headers, 'connection', 'close']
  }

  #withAnswerHeaders(headers: HeaderList): HeaderList {
    const { answerHeaders } = this.#request
    return answerHeaders.length === 0 ? headers : [...headers, ...answerHeaders]
  }

  /**
   * The connection can't be used for another request when too much of this one's body is still to come, or when it came in chunks, whose trailers
   * uWebSockets.js would read as the next request.
   */
  #ending(): Ending {
    const { contentLength } = this.#request
    if (contentLength === -1 || (!this.#bodyEnded && !canDrain(contentLength))) return 'close'
    if (!this.#drain.isDraining) return 'keep'
    return this.#bodyEnded ? 'close' : 'announce'
  }

  #finish(): void {
    if (this.#phase === 'done') return
    this.#phase = 'done'
    this.#intake?.stop()
    this.#onDone(this.#status)
  }
}

/** Whether a comment may go first: in an event stream, unless its bytes are compressed. */
function startsWithComment(headers: HeaderList): boolean {
  const type = headerValue(headers, 'content-type')
  return (
    type?.startsWith('text/event-stream') === true &&
    headerValue(headers, 'content-encoding') === undefined
  )
}
