/** The owner's end of a body that a pool thread receives: forwards chunks, grants room, and tells when the client has to wait. */
import { MessageChannel, type MessagePort } from 'node:worker_threads'

import { ownBytes, TRANSFER_BYTES } from '../../shared/frames/channel.ts'
import type { ToOwner, ToThread } from './body-port.ts'
import type { Received } from './receive-body.ts'

/** What is under way to the thread before the client is paused. Bounds the memory of one upload. */
const HIGH_WATER_BYTES = 1024 * 1024
const LOW_WATER_BYTES = 256 * 1024
/** Sets room aside: answers how many bytes more there are, at least `atLeastBytes`; rejects when there is no such room. */
export type GrantRoom = (atLeastBytes: number, upToBytes: number) => Promise<number>

/** See the file comment. */
export class BodyReceiver {
  /** Settles when the thread is done with it and, on a failure, has removed what it wrote. Rejects with the reason of a refusal of room too. */
  readonly result: Promise<Received>
  readonly #port: MessagePort
  readonly #grant: GrantRoom
  #drain: (() => void) | undefined
  #outstandingBytes = 0
  #isPaused = false
  #isClosed = false
  #refusal: { readonly error: unknown } | undefined

  constructor(run: (port: MessagePort) => Promise<Received>, grant: GrantRoom) {
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    this.#grant = grant
    port1.on('message', (message: ToOwner) => this.#onMessage(message))
    this.result = this.#settle(run(port2))
  }

  /**
   * Takes a chunk, from `TRANSFER_BYTES` on with its buffer, in which nobody else may have bytes. False means: read no more from the client until the
   * drain listener is called.
   */
  write(chunk: Uint8Array): boolean {
    if (this.#isClosed) return true
    this.#outstandingBytes += chunk.byteLength
    if (chunk.byteLength >= TRANSFER_BYTES && chunk.buffer instanceof ArrayBuffer) {
      this.#post(['chunk', chunk], [chunk.buffer])
    } else {
      // A view would carry its whole backing store along.
      this.#post(['chunk', ownBytes(chunk)])
    }
    if (this.#outstandingBytes >= HIGH_WATER_BYTES) this.#isPaused = true
    return !this.#isPaused
  }

  onDrain(listener: () => void): void {
    this.#drain = listener
  }

  end(): void {
    this.#post(['end'])
  }

  /** Gives the body up; `result` rejects with `BodyCancelledError` once nothing of it is left. */
  cancel(): void {
    this.#post(['cancel'])
  }

  async #settle(running: Promise<Received>): Promise<Received> {
    try {
      return await running
    } catch (error) {
      throw this.#refusal === undefined ? error : this.#refusal.error
    } finally {
      this.#isClosed = true
      this.#port.close()
    }
  }

  #onMessage(message: ToOwner): void {
    switch (message[0]) {
      case 'consumed':
        this.#consumed(message[1])
        return
      case 'need':
        this.#grant(message[1], message[2]).then(
          (bytes) => this.#post(['granted', bytes]),
          (error: unknown) => {
            this.#refusal ??= { error }
            this.cancel()
          },
        )
    }
  }

  #consumed(bytes: number): void {
    this.#outstandingBytes -= bytes
    if (!this.#isPaused || this.#outstandingBytes > LOW_WATER_BYTES) return
    this.#isPaused = false
    this.#drain?.()
  }

  #post(message: ToThread, transfer: readonly ArrayBuffer[] = []): void {
    if (!this.#isClosed) this.#port.postMessage(message, transfer)
  }
}
