/** An `Exchange` over frames: the worker's end of what `ListenerExchange` is on the primary. */
import { close } from 'node:fs'

import type { AdapterError } from '../../shared/errors.ts'
import { cheapestBytes, ownBytes } from '../../shared/frames/channel.ts'
import type { FrameChannel } from '../../shared/frames/channel.ts'
import type { HeaderList, ToPrimaryFrame, ToWorkerFrame } from '../../shared/frames/frames.ts'
import type { BodyListener, Exchange, RequestHead } from './exchange.ts'

/** The worker's channel to the primary. */
export type WorkerChannel = FrameChannel<ToPrimaryFrame, ToWorkerFrame>

/** See the file comment. `onClosed` is called once when no more frames will follow from this side; `onRefusal` for an error of ours. */
export class FrameExchange implements Exchange {
  readonly request: RequestHead
  readonly noteRefusal: ((error: AdapterError) => void) | undefined
  readonly #id: number
  readonly #channel: WorkerChannel
  readonly #onClosed: () => void
  #held: { status: number; headers: HeaderList; body: Uint8Array | string | undefined } | undefined
  #open = true
  #flowing = true
  /** Bytes of pieces that the primary has not acknowledged. */
  #underWay = 0
  #bodyListener: BodyListener | undefined
  #early: Uint8Array[] = []
  #bodyEnded: boolean
  #abortListener: (() => void) | undefined
  #drainListener: (() => void) | undefined

  constructor(
    id: number,
    request: RequestHead,
    complete: boolean,
    channel: WorkerChannel,
    onClosed: () => void,
    onRefusal?: (request: RequestHead, error: AdapterError) => void,
  ) {
    this.noteRefusal = onRefusal && ((error) => onRefusal(request, error))
    this.#id = id
    this.request = request
    this.#bodyEnded = complete
    this.#channel = channel
    this.#onClosed = onClosed
  }

  get isOpen(): boolean {
    return this.#open
  }

  note(method: string, tool: string | undefined): void {
    if (this.#open) this.#channel.send(['response.note', this.#id, method, tool])
  }

  readBody(listener: BodyListener): void {
    this.#bodyListener = listener
    const early = this.#early
    this.#early = []
    const { body } = this.request
    if (body !== null) early.push(typeof body === 'string' ? Buffer.from(body) : body)
    for (const chunk of early) this.#deliver(chunk)
    if (this.#bodyEnded) listener.end()
  }

  pauseBody(): void {
    if (this.#open && !this.#bodyEnded) this.#channel.send(['flow.pause', this.#id])
  }

  resumeBody(): void {
    if (this.#open && !this.#bodyEnded) this.#channel.send(['flow.resume', this.#id])
  }

  onAbort(listener: () => void): void {
    this.#abortListener = listener
  }

  respond(status: number, headers: HeaderList, body: Uint8Array | string | null = null): void {
    if (!this.#open) return
    const cheapest = body instanceof Uint8Array ? cheapestBytes(body) : body
    this.#channel.send(
      ['response.head', this.#id, status, headers, cheapest, true],
      cheapest instanceof Uint8Array ? cheapest : undefined,
    )
    this.#close()
  }

  begin(status: number, headers: HeaderList): void {
    if (!this.#open) return
    this.#held = { status, headers, body: undefined }
    this.#channel.beforeFlush(this.#sendHeld)
  }

  write(chunk: Uint8Array): boolean {
    if (!this.#open) return true
    const held = this.#held
    if (held !== undefined && held.body === undefined) {
      held.body = cheapestBytes(chunk)
      return this.#flowing
    }
    this.#sendHeld()
    const owned = ownBytes(chunk)
    this.#channel.send(['response.body', this.#id, owned], owned)
    this.#underWay += owned.byteLength
    return this.#mayWrite()
  }

  onDrain(listener: () => void): void {
    this.#drainListener = listener
  }

  end(): void {
    if (!this.#open) return
    if (this.#held === undefined) this.#channel.send(['response.end', this.#id])
    else this.#sendHead(true)
    this.#close()
  }

  reset(): void {
    if (!this.#open) return
    this.#sendHeld()
    this.#channel.send(['response.reset', this.#id])
    this.#close()
  }

  sendFile(
    status: number,
    headers: HeaderList,
    file: { fd: number; start: number; length: number; headOnly: boolean },
  ): void {
    if (!this.#open) {
      close(file.fd, () => {})
      return
    }
    this.#channel.send([
      'response.file',
      this.#id,
      status,
      headers,
      file.fd,
      file.start,
      file.length,
      file.headOnly,
    ])
    this.#close()
  }

  /** Takes a frame about this request. */
  receive(
    frame: Exclude<
      ToWorkerFrame,
      readonly ['request.head' | 'control.drain' | 'control.stop', ...unknown[]]
    >,
  ): void {
    if (!this.#open) return
    switch (frame[0]) {
      case 'request.body':
        this.#deliver(frame[2])
        return
      case 'request.end':
        this.#bodyEnded = true
        this.#bodyListener?.end()
        return
      case 'request.abort':
        this.#close()
        this.#abortListener?.()
        return
      case 'flow.pause':
        this.#flowing = false
        return
      case 'flow.resume':
        this.#flowing = true
        if (this.#mayWrite()) this.#drainListener?.()
        return
      case 'flow.acknowledge': {
        const wasFull = !this.#mayWrite()
        this.#underWay -= frame[2]
        if (wasFull && this.#mayWrite()) this.#drainListener?.()
      }
    }
  }

  #deliver(chunk: Uint8Array): void {
    if (this.#bodyListener === undefined) {
      this.#early.push(chunk)
      return
    }
    const { byteLength } = chunk
    this.#bodyListener.data(chunk)
    // Only now: what waits for a listener must not be followed by more.
    if (this.#open) this.#channel.send(['flow.acknowledge', this.#id, byteLength])
  }

  #mayWrite(): boolean {
    return this.#flowing && this.#underWay < MAX_UNDER_WAY_BYTES
  }

  /** A head waits for the end of its turn: most answers are complete by then, and travel as one frame and one write. */
  readonly #sendHeld = (): void => {
    if (this.#held !== undefined) this.#sendHead(false)
  }

  #sendHead(complete: boolean): void {
    const held = this.#held
    if (held === undefined) return
    this.#held = undefined
    const { status, headers, body = null } = held
    this.#channel.send(
      ['response.head', this.#id, status, headers, body, complete],
      typeof body === 'string' || body === null ? undefined : body,
    )
  }

  #close(): void {
    this.#open = false
    this.#held = undefined
    this.#early = []
    this.#onClosed()
  }
}

/** Pieces of one answer that may be between the threads at a time, in bytes; the primary acknowledges in steps of a quarter of it. */
const MAX_UNDER_WAY_BYTES = 1_048_576
