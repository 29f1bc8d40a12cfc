/**
 * An answer to a request whose body is still arriving, is not wanted, and is too large to take in. Closing the connection at once would reset it, and
 * the client would see that in place of the answer; so what comes is dropped for a while, and the connection closed when the client stops or has had
 * its chance to.
 */
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { HttpResponse } from './native.ts'
import { writeHead } from './response-head.ts'

/** A client that sent nothing for this long has stopped, in milliseconds. */
const QUIET_MS = 250

/** Longest time and most bytes that are spent on a client that does not stop. */
const LIMIT_MS = 3_000
const MAX_DROPPED_BYTES = 67_108_864

/** An unread body up to this size is taken in and dropped, so that the client gets to read the answer on a connection that stays good. */
const MAX_DRAINED_BYTES = 16_777_216

/** Whether a body that nobody wants is small enough to be taken in and dropped; -1 stands for an unknown length. */
export function canDrain(contentLength: number): boolean {
  return contentLength >= 0 && contentLength <= MAX_DRAINED_BYTES
}

/** See the file comment. Owns the response from its creation on; whoever has registered the response's callbacks passes on what they hear. */
export class LingeringAnswer {
  readonly #res: HttpResponse
  readonly #startedAtMs = Date.now()
  readonly #timer: NodeJS.Timeout
  #isOpen = true
  #droppedBytes = 0
  #droppedBefore = 0

  /** `body` must not be empty. */
  constructor(res: HttpResponse, status: number, headers: HeaderList, body: Uint8Array | string) {
    this.#res = res
    this.#timer = setInterval(() => this.#look(), QUIET_MS)
    this.#timer.unref()
    const length = Buffer.byteLength(body)
    res.cork(() => {
      writeHead(res, status, headers)
      res.writeHeader('connection', 'close')
      // The client is told the true length and gets all of it; uWebSockets.js waits for one byte more, which keeps the response ours to close.
      res.tryEnd('', length)
      res.tryEnd(body, length + 1)
    })
  }

  /** A piece of the body arrived. */
  take(bytes: number, isLast: boolean): void {
    this.#droppedBytes += bytes
    // Later, because what was written during a callback of uWebSockets.js leaves at its end.
    if (isLast || this.#droppedBytes > MAX_DROPPED_BYTES) setImmediate(() => this.#end())
  }

  /** The client left. */
  abort(): void {
    this.#isOpen = false
    clearInterval(this.#timer)
  }

  #look(): void {
    const isQuiet = this.#droppedBytes === this.#droppedBefore
    this.#droppedBefore = this.#droppedBytes
    if (isQuiet || Date.now() - this.#startedAtMs > LIMIT_MS) this.#end()
  }

  #end(): void {
    if (!this.#isOpen) return
    this.abort()
    this.#res.close()
  }
}
