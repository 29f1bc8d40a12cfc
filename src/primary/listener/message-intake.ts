/** Takes in JSON-RPC bodies, which a worker needs whole, within the limit of one message and that of all that are being received. */
import { AdapterError } from '../../shared/errors.ts'
import { cheapestBytes } from '../../shared/frames/channel.ts'
import { BodyBuffer } from './body-buffer.ts'
import { LingeringAnswer } from './lingering-answer.ts'
import type { AdmittedRequest } from './exchange.ts'
import type { EarlyBody } from './held-request.ts'
import type { HttpResponse } from './native.ts'
import { errorAnswer, respond } from './whole-answer.ts'

/** Bodies held in memory at once over all requests, before they are handed on; beyond it, new ones are answered 503. */
const MAX_BUFFERED_BYTES = 268_435_456

/**
 * A message that comes in pieces has this long, in milliseconds, and a second more for each so many bytes that have come. Silence is ended by
 * uWebSockets.js after ten seconds; this is for clients that send a byte now and then, to keep a connection and its buffer for ever.
 */
const SLOW_MS = 30_000
const SLOW_BYTES_PER_SECOND = 16_384

/** What becomes of one body; one of the two is called, once. */
export interface MessageReceiver {
  /** The bytes belong to the receiver, who takes the callbacks of the response over. */
  whole(body: Uint8Array | string): void
  /** It was too large or too slow, and answered with this status; or, without one, the client left. */
  over(status?: number): void
}

/** See the file comment. */
export class MessageIntake {
  readonly #maxMessageBytes: number
  readonly #clock: () => number
  #bufferedBytes = 0

  /** `clock` is monotonic, in milliseconds. */
  constructor(maxMessageBytes: number, clock: () => number = () => performance.now()) {
    this.#maxMessageBytes = maxMessageBytes
    this.#clock = clock
  }

  /** Whether a body of this announced length (-1 when it is not known) may be begun. */
  hasRoomFor(contentLength: number): boolean {
    return this.#bufferedBytes + Math.max(0, contentLength) <= MAX_BUFFERED_BYTES
  }

  /** Takes the callbacks of the response. `answerHeaders` go with a refusal. `early`: what of the body has been read before. */
  collect(
    res: HttpResponse,
    { contentLength, answerHeaders }: Pick<AdmittedRequest, 'contentLength' | 'answerHeaders'>,
    receiver: MessageReceiver,
    early?: EarlyBody,
  ): void {
    const parts = new BodyBuffer(contentLength < 0 ? this.#maxMessageBytes : contentLength)
    let size = 0
    let startedAtMs: number | undefined
    let isOver = false
    let lingering: LingeringAnswer | undefined
    const giveUp = (answered?: number): void => {
      isOver = true
      parts.take()
      this.#bufferedBytes -= size
      receiver.over(answered)
    }
    res.onAborted(() => {
      lingering?.abort()
      if (!isOver) giveUp()
    })
    const take = (lent: ArrayBufferLike, isLast: boolean): void => {
      lingering?.take(lent.byteLength, isLast)
      if (isOver) return
      size += lent.byteLength
      this.#bufferedBytes += lent.byteLength
      // A message that comes in one piece, as nearly all do, needs no clock.
      if (!isLast) startedAtMs ??= this.#clock()
      const refusal = this.#refusal(size) ?? this.#tooSlow(size, startedAtMs)
      if (refusal !== undefined) {
        giveUp(refusal.status)
        const { status, headers: own, body } = errorAnswer(refusal, 'mcp')
        const headers = [...own, ...answerHeaders]
        if (isLast) respond(res, status, headers, body, { headOnly: false, ending: 'close' })
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
      receiver.whole(body)
    }
    res.onData(take)
    if (early !== undefined && (early.isWhole || early.bytes.byteLength > 0))
      take(ownBuffer(early.bytes), early.isWhole)
  }

  #refusal(size: number): AdapterError | undefined {
    if (size > this.#maxMessageBytes)
      return new AdapterError('ADAPTER_MESSAGE_TOO_LARGE', tooLarge(this.#maxMessageBytes))
    return this.#bufferedBytes > MAX_BUFFERED_BYTES ? tooManyMessages() : undefined
  }

  #tooSlow(size: number, startedAtMs: number | undefined): AdapterError | undefined {
    if (startedAtMs === undefined) return undefined
    const allowedMs = SLOW_MS + (size / SLOW_BYTES_PER_SECOND) * 1_000
    if (this.#clock() - startedAtMs <= allowedMs) return undefined
    return new AdapterError(
      'ADAPTER_REQUEST_TOO_SLOW',
      `the message came too slowly: ${size} bytes in more than ${Math.floor(allowedMs / 1_000)} s`,
    )
  }
}

/** The memory of `bytes`, which is all of its buffer. */
function ownBuffer(bytes: Uint8Array): ArrayBufferLike {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer
}

/** What a client is told whose message is larger than `maxMessageBytes`. */
export function tooLarge(maxMessageBytes: number): string {
  return `the message is larger than core.max_message_bytes (${maxMessageBytes} bytes); send files through an upload URL`
}

/** There is no room for another message. */
export function tooManyMessages(): AdapterError {
  return new AdapterError(
    'ADAPTER_OVERLOADED',
    'too many large messages at once; repeat the request shortly',
  )
}
