/** One worker as the primary sees it: its channel, its state, and the requests that it has in hand. */
import { close } from 'node:fs'
import type { MessagePort } from 'node:worker_threads'

import { FrameChannel } from '../../shared/frames/channel.ts'
import type { FrameTally } from '../../shared/frames/frame-tally.ts'
import type { ToPrimaryFrame, ToWorkerFrame } from '../../shared/frames/frames.ts'
import { NumberMap } from '../../shared/number-map.ts'

/** The primary's end of one request. */
export interface PendingRequest {
  /** Takes a response frame; true when it was the last one for this request. */
  receive(frame: ResponseFrame): boolean
  /** The worker is gone or gave up. */
  fail(reason: 'worker_lost' | 'stopping'): void
}

/** Frames that are about a request. */
export type ResponseFrame = Exclude<
  ToPrimaryFrame,
  readonly ['control.ready' | 'control.failed', ...unknown[]]
>

/** What the supervisor wants to know. */
export interface WorkerEvents {
  ready(): void
  failed(message: string): void
}

/** See the file comment. Created with the port to a starting thread; `lose` is called once when the thread has ended. */
export class WorkerHandle {
  /** Which worker it is. */
  readonly index: number
  readonly #channel: FrameChannel<ToWorkerFrame, ToPrimaryFrame>
  readonly #pending = new NumberMap<PendingRequest>()
  readonly #events: WorkerEvents
  #nextId = 1
  #wasReady = false
  #state: 'starting' | 'ready' | 'lost' = 'starting'
  /** Why it is lost. */
  #lostBy: 'worker_lost' | 'stopping' = 'worker_lost'

  /** `index` names the worker in the log; `tally` counts frames, where somebody wants to know. */
  constructor(port: MessagePort, events: WorkerEvents, index = 0, tally?: FrameTally) {
    this.index = index
    this.#events = events
    this.#channel = new FrameChannel<ToWorkerFrame, ToPrimaryFrame>(
      port,
      (frame) => this.#receive(frame),
      tally,
    )
  }

  get isReady(): boolean {
    return this.#state === 'ready'
  }

  /** Whether it ever took requests: one that never did failed to start. */
  get wasReady(): boolean {
    return this.#wasReady
  }

  /** Registers a request and answers the number that its frames carry. One that is lost by then fails it in a moment. */
  open(request: PendingRequest): number {
    const id = this.#nextId++
    if (this.#state === 'lost') {
      queueMicrotask(() => request.fail(this.#lostBy))
      return id
    }
    this.#pending.set(id, request)
    return id
  }

  send(frame: ToWorkerFrame, payload?: Uint8Array): void {
    this.#channel.send(frame, payload)
  }

  /** Calls back at the end of this turn, before what was sent in it leaves. */
  beforeFlush(callback: () => void): void {
    this.#channel.beforeFlush(callback)
  }

  /** The client is gone: tells the worker and forgets the request. */
  abort(requestId: number): void {
    if (this.#pending.delete(requestId)) this.#channel.send(['request.abort', requestId])
  }

  /** Fails all requests in hand. */
  lose(reason: 'worker_lost' | 'stopping'): void {
    this.#state = 'lost'
    this.#lostBy = reason
    this.#channel.close()
    const pending = this.#pending.values()
    this.#pending.clear()
    for (const request of pending) request.fail(reason)
  }

  #receive(frame: ToPrimaryFrame): void {
    switch (frame[0]) {
      case 'control.ready':
        this.#state = 'ready'
        this.#wasReady = true
        this.#events.ready()
        return
      case 'control.failed':
        this.#events.failed(frame[1])
        return
      case 'response.note':
      case 'response.head':
      case 'response.body':
      case 'response.end':
      case 'response.reset':
      case 'response.file':
      case 'flow.pause':
      case 'flow.resume':
      case 'flow.acknowledge': {
        const request = this.#pending.get(frame[1])
        if (request === undefined) {
          // The client went away while the frame was under way; an open file would leak.
          if (frame[0] === 'response.file') closeFile(frame[4])
        } else if (request.receive(frame)) this.#pending.delete(frame[1])
      }
    }
  }
}

/** Closes a descriptor that nobody will send. */
function closeFile(fd: number): void {
  close(fd, () => {})
}
