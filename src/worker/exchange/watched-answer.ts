/** An answer on its way, looked at for hints that what an upstream lists has changed. A look at bytes: a hint too many costs a fetch, nothing else. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { AnswerListener } from '../upstream/upstream.ts'
import { isEventStream } from './media-type.ts'

/** How every notification of a changed list ends: `notifications/tools/list_changed`. */
const CHANGED = 'list_changed'
/** An answer to a call that names a tool that is not there, as servers and SDKs write it. Such answers are short. */
const UNKNOWN_TOOL = /[Uu]nknown tool|[Tt]ool \S{1,128} not found/
const SHORT_BYTES = 512

/** Who wants to know. */
export interface ListWatcher {
  /** Lists have changed, or may have. `sessionId` is the upstream session whose answer said so. */
  changed(sessionId: string | undefined): void
  /** The upstream could not be reached, or its answer broke off. */
  lost(): void
  /** Whether nobody needs to know at present. */
  readonly isIdle: boolean
}

/** See the file comment. */
export class WatchedAnswer implements AnswerListener {
  readonly #listener: AnswerListener
  readonly #watcher: ListWatcher
  readonly #sessionId: string | undefined
  #kind: 'stream' | 'whole' | 'seen' = 'whole'
  /** The last bytes of the chunk before: the word may be cut in two. */
  #tail = ''

  constructor(listener: AnswerListener, watcher: ListWatcher, sessionId: string | undefined) {
    this.#listener = listener
    this.#watcher = watcher
    this.#sessionId = sessionId
  }

  head(status: number, headers: HeaderList): void {
    if (isEventStream(headers)) this.#kind = 'stream'
    // The session is gone, and perhaps the server with it that had these lists.
    if (status === 404 && this.#sessionId !== undefined) this.#changed()
    this.#listener.head(status, headers)
  }

  data(chunk: Uint8Array): void {
    if (this.#kind !== 'seen' && !this.#watcher.isIdle) this.#look(chunk)
    this.#listener.data(chunk)
  }

  end(): void {
    this.#listener.end()
  }

  error(error: AdapterError): void {
    if (error.code === 'ADAPTER_UPSTREAM_UNREACHABLE') this.#watcher.lost()
    this.#listener.error(error)
  }

  #changed(): void {
    this.#watcher.changed(this.#sessionId)
  }

  #look(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const isShort = bytes.length <= SHORT_BYTES
    if (this.#kind === 'whole') {
      this.#kind = 'seen'
      if (isShort && UNKNOWN_TOOL.test(bytes.toString('latin1'))) this.#changed()
      return
    }
    const around = this.#tail + bytes.toString('latin1', 0, CHANGED.length)
    if (bytes.includes(CHANGED) || around.includes(CHANGED)) this.#changed()
    else if (isShort && UNKNOWN_TOOL.test(bytes.toString('latin1'))) this.#changed()
    this.#tail = (this.#tail + bytes.toString('latin1', bytes.length - CHANGED.length)).slice(
      1 - CHANGED.length,
    )
  }
}
