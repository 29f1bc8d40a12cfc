/** The client's end of a held stream: what comes before its stream has begun waits, so that kept messages are the first. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { messageEvent } from '../exchange/sse.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import type { StreamClient } from './stream-client.ts'

/** See the file comment. */
export class ClientFeed {
  readonly client: StreamClient
  #waiting: Uint8Array[] = []
  #isLive = false

  constructor(client: StreamClient) {
    this.client = client
  }

  /** Whether the client gets events as they come. */
  get isLive(): boolean {
    return this.#isLive
  }

  /** Begins the client's stream with messages that were kept for it. */
  begin(headers: HeaderList, source: UpstreamCall, messages: readonly string[]): void {
    const { client } = this
    // It may hold the stream back, but not end it.
    const pace = { pause: () => source.pause(), resume: () => source.resume(), abort: () => {} }
    client.head(200, headers, pace)
    for (const message of messages) client.data(messageEvent(message))
    for (const event of this.#waiting) client.data(event)
    this.#waiting = []
    this.#isLive = true
  }

  /** Takes an event as it is: it may be a comment, or an id that the client has to know. */
  event(event: Uint8Array): void {
    if (this.#isLive) this.client.data(event)
    else this.#waiting.push(event)
  }

  /** Takes a message that was kept for the client and arrives late. Only when live. */
  message(text: string): void {
    this.client.data(messageEvent(text))
  }

  /** Events that the client did not get, and will not. */
  leave(): readonly Uint8Array[] {
    const waiting = this.#waiting
    this.#waiting = []
    return waiting
  }
}
