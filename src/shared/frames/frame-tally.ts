/** How many frames are between two threads: each end adds to numbers of its own in shared memory, and anybody may look. */

/** Numbers of one channel, in the order of `FrameTally`'s places. */
export type TallyMemory = SharedArrayBuffer

const PLACES = { to_worker: 0, to_primary: 2 } as const

/** A direction of the channel. */
export type Direction = keyof typeof PLACES

/** The memory for one channel. */
export function createTallyMemory(): TallyMemory {
  return new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT)
}

/** One end's view. Each number has one writer, so plain additions do; what is read may be a moment old. */
export class FrameTally {
  readonly #counts: Int32Array
  readonly #out: number
  readonly #in: number

  /** `sends`: the direction in which this end sends. */
  constructor(memory: TallyMemory, sends: Direction) {
    this.#counts = new Int32Array(memory)
    this.#out = PLACES[sends]
    this.#in = PLACES[sends === 'to_worker' ? 'to_primary' : 'to_worker'] + 1
  }

  sent(frames: number): void {
    this.#counts[this.#out] = (this.#counts[this.#out] ?? 0) + frames
  }

  taken(frames: number): void {
    this.#counts[this.#in] = (this.#counts[this.#in] ?? 0) + frames
  }

  /** Frames that were sent in a direction and are not taken. */
  waiting(direction: Direction): number {
    const place = PLACES[direction]
    // Both numbers wrap around together.
    return ((this.#counts[place] ?? 0) - (this.#counts[place + 1] ?? 0)) | 0
  }
}
