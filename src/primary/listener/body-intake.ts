/** The body of one request on its way to the worker: handed on in pieces of a good size, and read from the client at the pace of the worker. */
import type { WorkerHandle } from '../dispatch/worker-handle.ts'
import { FrameBuffer } from './frame-buffer.ts'
import type { HttpResponse } from './native.ts'

/** Bytes of a request's body that may be on their way to the worker. */
const MAX_UNDER_WAY_BYTES = 1_048_576

/** Bytes of all bodies that are on their way to workers. */
export interface BytesUnderWay {
  bytes: number
}

/** See the file comment. */
export class BodyIntake {
  readonly #res: HttpResponse
  readonly #worker: WorkerHandle
  readonly #requestId: number
  readonly #all: BytesUnderWay
  readonly #collected = new FrameBuffer()
  #isWanted = true
  #isPaused = false
  /** Bytes that the worker has not taken in. */
  #underWay = 0
  #isHeld = false

  /** What is under way is added to `all`. */
  constructor(res: HttpResponse, worker: WorkerHandle, requestId: number, all: BytesUnderWay) {
    this.#all = all
    this.#res = res
    this.#worker = worker
    this.#requestId = requestId
  }

  /** Copies what is lent for this callback only. Small pieces are collected to the end of the turn: a frame costs more than it may hold. */
  take(lent: ArrayBuffer): void {
    if (!this.#isWanted || lent.byteLength === 0) return
    if (!this.#collected.hasRoom(lent.byteLength)) this.#sendCollected(true)
    if (this.#collected.length === 0) this.#worker.beforeFlush(this.#sendAtLast)
    this.#collected.append(new Uint8Array(lent))
  }

  /** The body is complete. */
  end(): void {
    if (!this.#isWanted) return
    this.#sendCollected(false)
    this.#worker.send(['request.end', this.#requestId])
  }

  /** The worker is behind. */
  pause(): void {
    this.#isPaused = true
    this.#holdOrRead()
  }

  resume(): void {
    this.#isPaused = false
    this.#holdOrRead()
  }

  /** The worker has taken in so many bytes. */
  acknowledge(bytes: number): void {
    this.#count(-bytes)
    this.#holdOrRead()
  }

  /** Nothing more is handed on. */
  stop(): void {
    this.#isWanted = false
    this.#count(-this.#underWay)
  }

  /** The same while the connection goes on. Reading is paused for the connection, not for the request: left paused, it would never see its next one. */
  release(): void {
    this.stop()
    this.#isPaused = false
    this.#holdOrRead()
  }

  readonly #sendAtLast = (): void => this.#sendCollected(false)

  #sendCollected(isFull: boolean): void {
    if (!this.#isWanted || this.#collected.length === 0) return
    const chunk = this.#collected.take(isFull)
    this.#count(chunk.byteLength)
    this.#worker.send(['request.body', this.#requestId, chunk], chunk)
    this.#holdOrRead()
  }

  #count(bytes: number): void {
    this.#underWay += bytes
    this.#all.bytes += bytes
  }

  /** Reads from the client only while the worker wants more and has taken in what it was sent. */
  #holdOrRead(): void {
    const mustHold = this.#isPaused || this.#underWay > MAX_UNDER_WAY_BYTES
    if (mustHold === this.#isHeld) return
    this.#isHeld = mustHold
    if (mustHold) this.#res.pause()
    else this.#res.resume()
  }
}
