/** Hands an answer on as it comes. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import type { AnswerSink } from './answer-sink.ts'
import type { Exchange } from './exchange.ts'
import { isEventStream } from './media-type.ts'
import type { ListWatch } from './list-watch.ts'
import type { ToolListScanner } from './tool-list-scanner.ts'

/** How an answer is looked at on its way. */
export interface Watched {
  readonly watch: ListWatch
  readonly scanner: ToolListScanner
}

/** Relays bytes as they come, at the client's pace. */
export class RawSink implements AnswerSink {
  readonly #exchange: Exchange
  readonly #onCut: (error: AdapterError, resumable: boolean) => void
  readonly #isStream: boolean
  /** Until it is sent. */
  #head: { readonly status: number; readonly headers: HeaderList } | undefined
  readonly #watched: Watched | undefined
  readonly #call: UpstreamCall
  #resumable = false
  #over = false
  /** The last bytes of the chunk before: a field name may be cut in two. */
  #tail = '\n'

  /**
   * Sends the head at once; of an answer that is no event stream, with its first bytes where `waits`. `onCut` ends the answer when the upstream's broke off;
   * `resumable` says that the stream carried event ids.
   */
  constructor(
    exchange: Exchange,
    head: { status: number; headers: HeaderList },
    call: UpstreamCall,
    onCut: (error: AdapterError, resumable: boolean) => void,
    {
      waits = false,
      watched,
    }: { readonly waits?: boolean; readonly watched?: Watched | undefined } = {},
  ) {
    this.#exchange = exchange
    this.#onCut = onCut
    exchange.onDrain(() => call.resume())
    this.#call = call
    this.#watched = watched
    this.#isStream = isEventStream(head.headers)
    this.#head = head
    if (this.#isStream || !waits) this.#begin()
  }

  /** Whether the client has seen anything of the answer. */
  get hasBegun(): boolean {
    return this.#head === undefined
  }

  data(chunk: Uint8Array): void {
    if (this.#over) return
    if (this.#watched?.scanner.push(chunk) === true) {
      this.#over = true
      this.#call.abort()
      this.#onCut(this.#watched.watch.found(), this.#resumable)
      return
    }
    if (this.#isStream && !this.#resumable) this.#lookForEventId(chunk)
    this.#begin()
    if (!this.#exchange.write(chunk)) this.#call.pause()
  }

  end(): void {
    if (this.#over) return
    this.#begin()
    this.#exchange.end()
  }

  error(error: AdapterError): void {
    if (this.#over) return
    this.#onCut(error, this.#resumable)
  }

  abandon(): void {}

  #begin(): void {
    if (this.#head === undefined) return
    this.#exchange.begin(this.#head.status, this.#head.headers)
    this.#head = undefined
  }

  #lookForEventId(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    this.#resumable =
      bytes.includes('\nid:') ||
      bytes.includes('\rid:') ||
      /[\r\n]id:/.test(this.#tail + bytes.toString('latin1', 0, 3))
    this.#tail = (this.#tail + bytes.subarray(-3).toString('latin1')).slice(-3)
  }
}
