/** One connection to an upstream: carries one request at a time, and is used again when its answer ended where it should. */
import type { Socket } from 'node:net'

import { AdapterError } from '../../../shared/errors.ts'
import { AnswerParser } from './answer-parser.ts'
import type { Connector } from './connector.ts'
import type { HeaderNames } from './header-names.ts'
import type { Carrier, Http1Call } from './http1-call.ts'
import { codeOf, connectTimedOut, invalidAnswer } from './http1-errors.ts'

const READ_BUFFER_BYTES = 65_536

/** Idle connections are dropped before the common five seconds of servers, so that a request seldom meets one that is being closed. */
const KEEP_ALIVE_MS = 4_000
/** Taken off what a server promises, for the way there. */
const KEEP_ALIVE_MARGIN_MS = 1_000

/**
 * A read and its callback are one step where sockets are read when they are ready, so all connections share a buffer. Windows is given a buffer first and
 * fills it when it likes.
 */
const SHARED_READ_BUFFER =
  process.platform === 'win32' ? undefined : Buffer.allocUnsafeSlow(READ_BUFFER_BYTES)

/** Reasons why a connection was not made that may be gone in a moment: a server that is being restarted, a route that changes. */
const PASSING: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'EPIPE',
  'closed',
])

/** What a connection tells its pool. */
export interface ConnectionOwner {
  /** It is idle. */
  released(connection: Connection): void
  /** It is closed; its call has not been told yet. */
  closing(connection: Connection): void
  /** It is closed, and its call knows. */
  closed(): void
}

/** See the file comment. */
export class Connection implements Carrier {
  /** Until when it may be used, and since when it has been idle, by `performance.now()`. */
  usableUntilMs = 0
  #socket: Socket
  readonly #owner: ConnectionOwner
  readonly #parser: AnswerParser
  readonly #isTls: boolean
  #call: Http1Call | undefined
  #connectTimer: NodeJS.Timeout | undefined
  #state: 'connecting' | 'open' | 'closed' = 'connecting'
  #wasUsed = false
  /** Whether any byte of the present request may have left. */
  #isWritten = false
  #idleSinceMs = 0

  /** Connects, to carry `call`. */
  constructor(
    connector: Connector,
    names: HeaderNames,
    connectTimeoutMs: number,
    owner: ConnectionOwner,
    call: Http1Call,
  ) {
    this.#owner = owner
    this.#parser = new AnswerParser(names)
    this.#isTls = connector.isTls
    this.#call = call
    call.carriedBy(this)
    this.#connectTimer = setTimeout(() => this.#fail(connectTimedOut()), connectTimeoutMs)
    this.#socket = connector.open(
      {
        buffer: SHARED_READ_BUFFER ?? Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
        callback: (length, bytes) => this.#read(length, bytes),
      },
      {
        replaced: (socket) => {
          this.#socket = socket
          this.#listen(socket)
        },
        ready: () => this.#connected(),
        failed: (error) => this.#fail(error),
      },
    )
    // A tunnel looks after itself until it is open.
    if (!connector.isTunnel) this.#listen(this.#socket)
  }

  /** Whether an idle connection looks alive at `nowMs`. */
  isUsable(nowMs: number): boolean {
    const socket = this.#socket
    return nowMs < this.usableUntilMs && !socket.destroyed && socket.writable && socket.readable
  }

  /** Carries a call. Only when idle. After `settledMs` in idleness, events about the connection that already wait in the system are let come first. */
  carry(call: Http1Call, settledMs: number): void {
    this.#call = call
    call.carriedBy(this)
    if (performance.now() - this.#idleSinceMs < settledMs) {
      this.#send(call)
      return
    }
    // Two, as the first may come before the system is asked again.
    setImmediate(() => {
      setImmediate(() => {
        if (this.#call === call) this.#send(call)
      })
    })
  }

  abort(): void {
    this.#call = undefined
    this.#close()
    this.#owner.closed()
  }

  pause(): void {
    // Before that, there is nothing to hold back, and a handshake to let through.
    if (this.#isWritten) this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Closes it; its call gets `error`. */
  destroy(error: AdapterError): void {
    this.#fail(error)
  }

  #listen(socket: Socket): void {
    socket.on('end', () => this.#ended())
    socket.on('error', (error) => this.#broke(codeOf(error), error))
    socket.on('close', () => this.#broke('closed'))
  }

  #connected(): void {
    if (this.#state !== 'connecting') return
    clearTimeout(this.#connectTimer)
    this.#connectTimer = undefined
    this.#state = 'open'
    if (this.#call !== undefined) this.#send(this.#call)
  }

  #send(call: Http1Call): void {
    const { head, body } = call.request
    const socket = this.#socket
    this.#parser.begin(call)
    this.#isWritten = true
    if (call.isPaused) socket.pause()
    if (typeof head === 'string') socket.write(head, 'latin1')
    else if (body === null) socket.write(head)
    else {
      socket.cork()
      socket.write(head)
      socket.write(body)
      socket.uncork()
    }
    // The system took nothing at all when it refuses at once. TLS has its own buffers, which tell less.
    if (socket.errored !== null && !this.#isTls) this.#isWritten = false
    if (this.#isWritten) call.hasLeft = true
  }

  #read(length: number, bytes: Uint8Array): boolean {
    const call = this.#call
    if (call === undefined || !this.#isWritten) {
      // Bytes that nobody asked for must not be taken for the answer to what is asked next.
      this.#broke('unexpected data')
      return true
    }
    let used: number
    try {
      // Sockets hand out buffers.
      used = this.#parser.push(bytes as Buffer, length)
    } catch (error) {
      this.#fail(error instanceof AdapterError ? error : invalidAnswer(String(error)))
      return true
    }
    if (this.#call === call && this.#parser.isDone) this.#finish(call, used === length)
    return true
  }

  /** `isExact`: nothing came after the answer. */
  #finish(call: Http1Call, isExact: boolean): void {
    this.#call = undefined
    const keepAliveMs = this.#keepAliveMs()
    const canReuse =
      isExact &&
      keepAliveMs > 0 &&
      this.#parser.canReuse &&
      !call.request.closes &&
      // The server answered before it had the whole request.
      this.#socket.writableLength === 0 &&
      this.#socket.writable
    this.#parser.clear()
    if (canReuse) {
      if (call.isPaused) this.#socket.resume()
      this.#wasUsed = true
      this.#isWritten = false
      this.#idleSinceMs = performance.now()
      this.usableUntilMs = this.#idleSinceMs + keepAliveMs
      this.#owner.released(this)
    } else {
      this.#close()
      this.#owner.closed()
    }
    call.end()
  }

  #keepAliveMs(): number {
    const seconds = this.#parser.keepAliveSeconds
    return seconds === undefined
      ? KEEP_ALIVE_MS
      : Math.min(KEEP_ALIVE_MS, seconds * 1_000 - KEEP_ALIVE_MARGIN_MS)
  }

  /** The server closed its side. */
  #ended(): void {
    const call = this.#call
    if (call !== undefined && this.#isWritten && this.#parser.finish()) this.#finish(call, true)
    else this.#broke('closed')
  }

  #broke(why: string, cause?: Error): void {
    if (this.#state === 'closed') return
    const call = this.#call
    const mayResend =
      call !== undefined &&
      (this.#wasUsed
        ? !this.#isWritten || (call.isSafe && !this.#parser.hasBegun)
        : this.#state === 'connecting' && PASSING.has(why))
    const wasMade = this.#state === 'open'
    this.#call = undefined
    this.#close()
    call?.broke(why, mayResend, wasMade, cause)
    this.#owner.closed()
  }

  #fail(error: AdapterError): void {
    if (this.#state === 'closed') return
    const call = this.#call
    this.#call = undefined
    this.#close()
    call?.fail(error)
    this.#owner.closed()
  }

  #close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    clearTimeout(this.#connectTimer)
    this.#parser.clear()
    this.#socket.destroy()
    this.#owner.closing(this)
  }
}
