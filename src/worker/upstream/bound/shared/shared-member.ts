/** One session's part of a connection that several share: to the session it is a connection of its own. */
import { AdapterError } from '../../../../shared/errors.ts'
import type { JsonObject } from '../../../../shared/state/records.ts'
import type { MessageConnection, MessageListener } from '../message-connection.ts'

/** Most bytes that wait for a session that has paused: the others must not wait for it. */
const MAX_HELD_BYTES = 4_194_304

/** Who takes what a member sends, and hears of its end. */
export interface MemberHub {
  send(member: SharedMember, message: Uint8Array): Promise<void>
  leave(member: SharedMember): void
}

/** See the file comment. */
export class SharedMember implements MessageConnection {
  readonly #hub: MemberHub
  readonly #listener: MessageListener
  #held: Uint8Array[] = []
  #heldBytes = 0
  #isPaused = false
  #isOver = false

  constructor(hub: MemberHub, listener: MessageListener) {
    this.#hub = hub
    this.#listener = listener
  }

  send(message: Uint8Array): Promise<void> {
    return this.#hub.send(this, message)
  }

  /** A message for this session. */
  deliver(message: JsonObject): void {
    if (this.#isOver) return
    const bytes = Buffer.from(JSON.stringify(message))
    if (!this.#isPaused && this.#held.length === 0) {
      this.#listener.message(bytes)
      return
    }
    this.#held.push(bytes)
    this.#heldBytes += bytes.byteLength
    if (this.#heldBytes <= MAX_HELD_BYTES) return
    this.#hub.leave(this)
    this.lose(
      new AdapterError(
        'ADAPTER_UPSTREAM_UNREACHABLE',
        `the session left ${MAX_HELD_BYTES} bytes of a shared process unread and was cut off`,
      ),
    )
  }

  /** The connection is over for this session. */
  lose(error: AdapterError): void {
    if (this.#isOver) return
    this.#end()
    this.#listener.closed(error)
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    while (!this.#hasStopped()) {
      const bytes = this.#held.shift()
      if (bytes === undefined) return
      this.#heldBytes -= bytes.byteLength
      this.#listener.message(bytes)
    }
  }

  async close(): Promise<void> {
    if (this.#isOver) return
    this.#end()
    this.#hub.leave(this)
  }

  /** Either may happen while a message is delivered. */
  #hasStopped(): boolean {
    return this.#isPaused || this.#isOver
  }

  #end(): void {
    this.#isOver = true
    this.#held = []
  }
}
