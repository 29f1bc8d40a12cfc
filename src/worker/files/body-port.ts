/**
 * The port over which an owner forwards one request body to a pool thread. Credit: the owner counts what it sent and what the thread reports as
 * consumed, and pauses its client in between. Room: the thread asks before it writes beyond what was reserved.
 */
import { MessageChannel } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'

/** Owner → thread. `cancel` may come at any time and is the last message. */
export type ToThread =
  /** Nobody else uses its buffer. */
  | readonly [kind: 'chunk', chunk: Uint8Array]
  | readonly [kind: 'end']
  | readonly [kind: 'granted', bytes: number]
  | readonly [kind: 'cancel']

/** Thread → owner. */
export type ToOwner =
  | readonly [kind: 'consumed', bytes: number]
  /** At most one is unanswered at a time. `upToBytes` is what would be of use. */
  | readonly [kind: 'need', atLeastBytes: number, upToBytes: number]

/** The owner gave the body up; everything that was written of it has to go. */
export class BodyCancelledError extends Error {
  override readonly name = 'BodyCancelledError'
}

/** The thread's end of the port. */
export class PortBody {
  readonly #port: MessagePort
  readonly #chunks: Uint8Array[] = []
  #hasEnded = false
  #isCancelled = false
  #wake: (() => void) | undefined
  #waitingForRoom: ((bytes: number) => void) | undefined
  /** Bytes of the body that were handed out so far. */
  receivedBytes = 0

  constructor(port: MessagePort) {
    this.#port = port
    port.on('message', (message: ToThread) => this.#onMessage(message))
    // The owner died with its thread: same as a cancellation.
    port.on('close', () => this.#cancel())
  }

  /**
   * The body's chunks; one counts as consumed when the next is asked for. With `areDone` nobody looks at a chunk after that, and its memory is given
   * back at once: left to the garbage collector, consumed chunks pile up to a hundred megabytes. Throws `BodyCancelledError`.
   */
  async *chunks({ areDone }: { readonly areDone: boolean }): AsyncGenerator<Buffer> {
    for (;;) {
      if (this.#isCancelled) throw new BodyCancelledError('the upload was given up')
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        const { byteLength } = chunk
        this.receivedBytes += byteLength
        yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
        this.#post(['consumed', byteLength])
        if (areDone) release(chunk)
      } else if (this.#hasEnded) {
        return
      } else {
        // oxlint-disable-next-line no-await-in-loop -- a body comes in order
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    }
  }

  /** Asks the owner for room; answers how much there is more now. Throws `BodyCancelledError`, which is also how a refusal shows. */
  async requestRoom(atLeastBytes: number, upToBytes: number): Promise<number> {
    const granted = await new Promise<number>((resolve) => {
      this.#waitingForRoom = resolve
      if (this.#isCancelled) resolve(0)
      else this.#post(['need', atLeastBytes, upToBytes])
    })
    if (this.#isCancelled) throw new BodyCancelledError('the upload was given up')
    return granted
  }

  close(): void {
    this.#port.close()
  }

  #onMessage(message: ToThread): void {
    switch (message[0]) {
      case 'chunk':
        this.#chunks.push(message[1])
        this.#wake?.()
        return
      case 'end':
        this.#hasEnded = true
        this.#wake?.()
        return
      case 'granted':
        this.#waitingForRoom?.(message[1])
        return
      case 'cancel':
        this.#cancel()
    }
  }

  #cancel(): void {
    this.#isCancelled = true
    this.#wake?.()
    this.#waitingForRoom?.(0)
  }

  #post(message: ToOwner): void {
    this.#port.postMessage(message)
  }
}

/** A port that nobody listens to any more: what is transferred to it is freed. */
const nowhere = (() => {
  const { port1, port2 } = new MessageChannel()
  port2.close()
  return port1
})()

/** Frees a chunk's memory; the chunk is empty afterwards. */
function release(chunk: Uint8Array): void {
  // Nobody else uses its buffer, which came over a port itself and so is no shared memory.
  nowhere.postMessage(null, [chunk.buffer as ArrayBuffer])
}
