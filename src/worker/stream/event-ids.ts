/** The ids of the last events of a standalone stream: by one of them a client goes on with this stream, and not with that of one of its calls. */
import { eventId } from '../exchange/sse.ts'

/** Ids that are remembered. A client that goes on names the last one that reached it. */
const MAX_IDS = 256

/** See the file comment. */
export class EventIds {
  readonly #ids = new Set<string>()
  #upstreamSessionId: string | null = null
  #last: string | undefined

  /** The newest; undefined when the upstream gives none. */
  get last(): string | undefined {
    return this.#last
  }

  has(id: string): boolean {
    return this.#ids.has(id)
  }

  /** What follows is a stream of this upstream session; ids of another one mean nothing to it. */
  of(upstreamSessionId: string | null): void {
    if (this.#upstreamSessionId === upstreamSessionId) return
    this.#upstreamSessionId = upstreamSessionId
    this.#ids.clear()
    this.#last = undefined
  }

  note(event: Uint8Array): void {
    // Most upstreams have none: looking for bytes is cheaper than reading lines.
    if (!Buffer.from(event.buffer, event.byteOffset, event.byteLength).includes('id:')) return
    const id = eventId(event)
    if (id === undefined) return
    this.#last = id === '' ? undefined : id
    this.#ids.delete(id)
    this.#ids.add(id)
    const [oldest] = this.#ids
    if (this.#ids.size > MAX_IDS && oldest !== undefined) this.#ids.delete(oldest)
  }
}
