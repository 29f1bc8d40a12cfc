/**
 * One answer of a `BoundUpstream`: whole, or as an event stream that begins with its first message. Hands it out at the reader's pace and says how much it
 * holds back.
 */
import type { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { AnswerListener, UpstreamCall } from '../upstream.ts'
import { RefusedCredentials } from './refused-credentials.ts'

const JSON_TYPE = ['content-type', 'application/json'] as const
const STREAM_HEADERS = [
  'content-type',
  'text/event-stream',
  'cache-control',
  'no-cache',
  'x-accel-buffering',
  'no',
] as const
const EVENT_START = Buffer.from('event: message\ndata: ')
const EVENT_END = Buffer.from('\n\n')

/** Who is told what becomes of an answer. */
export interface AnswerOwner {
  /** The reader went away. */
  readonly onAbort: () => void
  /** This many bytes more, or less, wait for a reader that paused. */
  readonly onHeld: (bytes: number) => void
}

/** See the file comment. Nothing reaches the listener after the end or after `abort`. */
export class BoundAnswer implements UpstreamCall {
  readonly #listener: AnswerListener
  #owner: AnswerOwner | undefined
  #held: Uint8Array[] = []
  #heldBytes = 0
  #isPaused = false
  #isStream = false
  #isEnding = false
  #over = false

  constructor(listener: AnswerListener) {
    this.#listener = listener
  }

  get isOver(): boolean {
    return this.#over
  }

  get isStream(): boolean {
    return this.#isStream
  }

  /** How many bytes wait for the reader. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Before anything is sent. */
  belongTo(owner: AnswerOwner): void {
    this.#owner = owner
  }

  /** Answers with what the upstream said, which is JSON. */
  respond(status: number, body: Uint8Array | string, headers: HeaderList = []): void {
    this.#whole(status, body, [...JSON_TYPE, ...headers], false)
  }

  /** Answers that something was done. Whether the upstream knows of it is another question. */
  confirm(status: number): void {
    this.#whole(status, null, [], true)
  }

  /** Answers with an error as a server does; `id` is that of the request. */
  refuse(status: number, code: number, message: string, id: unknown = null): void {
    const body = JSON.stringify({ jsonrpc: '2.0', id, error: { code, message } })
    this.#whole(status, body, JSON_TYPE, true)
  }

  /** From here on the answer is an event stream. */
  begin(): void {
    if (this.#over || this.#isStream) return
    this.#isStream = true
    this.#listener.head(200, STREAM_HEADERS, true)
  }

  /** Sends a message, on one line, as an event. */
  send(message: Uint8Array): void {
    if (this.#over || this.#isEnding) return
    this.begin()
    if (this.isOver) return
    const event = Buffer.concat([EVENT_START, message, EVENT_END])
    if (this.#isPaused || this.#held.length > 0) this.#hold(event)
    else this.#listener.data(event)
  }

  /** The stream is complete. */
  end(): void {
    if (this.#over) return
    this.begin()
    if (this.isOver) return
    this.#isEnding = true
    this.#flush()
  }

  /** The answer will never be complete. What waited is lost. Where the upstream said over HTTP what is wrong with the request's credentials, that is the answer. */
  fail(error: AdapterError): void {
    if (this.#over) return
    if (error instanceof RefusedCredentials && !this.#isStream) {
      const { status, headers, body } = error.answer
      this.#whole(status, body, headers, false)
      return
    }
    this.#over = true
    this.#drop()
    this.#listener.error(error)
  }

  abort(): void {
    if (this.#over) return
    this.#over = true
    this.#drop()
    this.#owner?.onAbort()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#flush()
  }

  #whole(
    status: number,
    body: Uint8Array | string | null,
    headers: HeaderList,
    isOurs: boolean,
  ): void {
    if (this.#over) return
    this.#listener.head(status, headers, isOurs)
    // The listener may have aborted in between.
    if (body !== null && !this.isOver)
      this.#listener.data(typeof body === 'string' ? Buffer.from(body) : body)
    if (this.isOver) return
    this.#over = true
    this.#listener.end()
  }

  #hold(event: Uint8Array): void {
    this.#held.push(event)
    this.#heldBytes += event.byteLength
    this.#owner?.onHeld(event.byteLength)
  }

  #flush(): void {
    while (!this.#isPaused && !this.#over) {
      const event = this.#held.shift()
      if (event === undefined) break
      this.#heldBytes -= event.byteLength
      this.#owner?.onHeld(-event.byteLength)
      this.#listener.data(event)
    }
    if (!this.#isEnding || this.#over || this.#held.length > 0) return
    this.#over = true
    this.#listener.end()
  }

  #drop(): void {
    const bytes = this.#heldBytes
    this.#held = []
    this.#heldBytes = 0
    if (bytes > 0) this.#owner?.onHeld(-bytes)
  }
}
