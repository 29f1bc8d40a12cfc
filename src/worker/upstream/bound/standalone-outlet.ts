/** Where messages go that belong to no call: the standalone stream (GET), and while there is none, a bounded place to wait for one. */
import { AdapterError } from '../../../shared/errors.ts'
import type { BoundAnswer } from './bound-answer.ts'
import type { UpstreamMessage } from './upstream-message.ts'

/** Most messages, and bytes of them, that wait for a stream. */
const MAX_WAITING = 256
const MAX_WAITING_BYTES = 1_048_576
/** Most bytes that wait for a reader who has paused. */
const MAX_UNREAD_BYTES = 4_194_304

/** See the file comment. One per session. */
export class StandaloneOutlet {
  readonly #onLost: (message: UpstreamMessage) => void
  #stream: BoundAnswer | undefined
  #waiting: UpstreamMessage[] = []
  #waitingBytes = 0

  /** `onLost` gets each message that there is no room for. */
  constructor(onLost: (message: UpstreamMessage) => void) {
    this.#onLost = onLost
  }

  get isOpen(): boolean {
    return this.#stream !== undefined
  }

  /** Makes this answer the stream; answers whether there was none. */
  open(answer: BoundAnswer): boolean {
    if (this.#stream !== undefined) return false
    this.#stream = answer
    answer.belongTo({
      onAbort: () => {
        this.#stream = undefined
      },
      onHeld: () => {},
    })
    answer.begin()
    const waiting = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    for (const message of waiting) this.send(message)
    return true
  }

  send(message: UpstreamMessage): void {
    const stream = this.#stream
    if (stream === undefined) {
      this.#keep(message)
      return
    }
    stream.send(message.bytes)
    if (stream.heldBytes <= MAX_UNREAD_BYTES) return
    // A client that does not read this stream must not stop its calls, which come over the same connection.
    this.#stream = undefined
    stream.fail(
      new AdapterError(
        'ADAPTER_UPSTREAM_INVALID',
        `the client left ${MAX_UNREAD_BYTES} bytes of its stream unread`,
      ),
    )
  }

  /** The connection is over. */
  fail(error: AdapterError): void {
    this.#waiting = []
    this.#stream?.fail(error)
    this.#stream = undefined
  }

  #keep(message: UpstreamMessage): void {
    this.#waiting.push(message)
    this.#waitingBytes += message.bytes.byteLength
    while (this.#waiting.length > MAX_WAITING || this.#waitingBytes > MAX_WAITING_BYTES) {
      const oldest = this.#waiting.shift()
      if (oldest === undefined) return
      this.#waitingBytes -= oldest.bytes.byteLength
      this.#onLost(oldest)
    }
  }
}
