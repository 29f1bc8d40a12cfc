/**
 * Writes the pieces of one answer at the client's pace. uWebSockets.js takes every piece, keeps what the socket does not, and then sends that only
 * when it is called again: so a client that falls behind gets its backlog from here, and a push whenever its connection can take more.
 */
import type { HttpResponse } from './native.ts'

/**
 * Largest write inside one `cork`, in bytes: with the head it fits uWebSockets.js's buffer of 16 KiB. A larger one makes it flush that buffer first,
 * and when the socket is full just then, it drops the bytes it was called with.
 */
const MAX_WRITE_BYTES = 8_192

/** Enough to learn from whether everything before it was sent, and so little that learning it again and again does not add up. */
const PROBE_BYTES = 1_024

/** A producer that was told to pause stops long before this; beyond it the client is given up. */
const MAX_BACKLOG_BYTES = 67_108_864

/** How the writer talks to whoever produces the pieces. */
export interface WriterFlow {
  /** Produce no more until `resume`. What is under way is still taken. */
  pause(): void
  resume(): void
  /** More arrived after `pause` than may be held. */
  overflow(): void
}

/** See the file comment. Stops being called when the response is over. */
export class PacedWriter {
  readonly #res: HttpResponse
  readonly #flow: WriterFlow
  /** Whether uWebSockets.js may be holding bytes: known only by the outcome of the next write. */
  #behind = false
  /** Whether what it may be holding had its chance to go, the connection being able to take more. */
  #flushed = false
  #paused = false
  #backlog: Uint8Array[] = []
  #backlogBytes = 0
  #whenSent: (() => void) | undefined

  constructor(res: HttpResponse, flow: WriterFlow) {
    this.#res = res
    this.#flow = flow
  }

  /** Writes a piece, or keeps it until the client has caught up. `writeHead` is called before the first one. */
  write(piece: Uint8Array | string, writeHead: () => void): void {
    if (this.#behind) {
      this.#hold(typeof piece === 'string' ? Buffer.from(piece) : piece)
      return
    }
    if (piece.length > MAX_WRITE_BYTES) {
      this.#res.cork(writeHead)
      this.#hold(typeof piece === 'string' ? Buffer.from(piece) : piece)
      return
    }
    let sent = true
    this.#res.cork(() => {
      writeHead()
      sent = this.#res.write(piece)
    })
    if (sent) return
    this.#fallBehind()
  }

  /** To be called whenever the connection can take more. */
  writable(): void {
    if (this.#backlog.length > 0) {
      this.#push()
      return
    }
    // What uWebSockets.js holds goes out when it is called, even with nothing to add.
    this.#res.cork(() => {})
    this.#flushed = true
    this.#resume()
    this.#whenSent?.()
  }

  /** Calls back, perhaps at once, when nothing is held any more, here or in uWebSockets.js: then the connection may be closed. */
  whenSent(callback: () => void): void {
    this.#whenSent = callback
    if (this.#isSent) callback()
  }

  get #isSent(): boolean {
    return this.#backlog.length === 0 && (!this.#behind || this.#flushed)
  }

  #hold(piece: Uint8Array): void {
    if (piece.byteLength === 0) return
    this.#backlog.push(piece)
    this.#backlogBytes += piece.byteLength
    if (this.#backlogBytes > MAX_BACKLOG_BYTES && this.#backlog.length > 1) this.#flow.overflow()
    else if (!this.#paused) this.#push()
  }

  #push(): void {
    if (this.#sendBacklog()) {
      this.#behind = false
      this.#resume()
    } else this.#fallBehind()
    if (this.#isSent) this.#whenSent?.()
  }

  #fallBehind(): void {
    this.#behind = true
    this.#flushed = false
    this.#pause()
  }

  /** Whether all of it was sent, and nothing is held anywhere. */
  #sendBacklog(): boolean {
    let index = 0
    // After a stop, a small write first: it tells whether everything before it went out.
    let size = this.#behind ? PROBE_BYTES : MAX_WRITE_BYTES
    while (index < this.#backlog.length) {
      const piece = this.#backlog[index] ?? NOTHING
      const part = piece.subarray(0, size)
      size = MAX_WRITE_BYTES
      const isSent = this.#writeCorked(part)
      this.#backlogBytes -= part.byteLength
      if (part.byteLength < piece.byteLength) this.#backlog[index] = piece.subarray(part.byteLength)
      else index++
      if (!isSent) {
        this.#backlog.splice(0, index)
        return false
      }
    }
    this.#backlog = []
    return true
  }

  #writeCorked(part: Uint8Array): boolean {
    let isSent = true
    this.#res.cork(() => {
      isSent = this.#res.write(part)
    })
    return isSent
  }

  #pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#flow.pause()
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#flow.resume()
  }
}

const NOTHING = new Uint8Array(0)
