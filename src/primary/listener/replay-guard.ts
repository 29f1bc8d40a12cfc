/** Takes each sealed request once. What was heard of a sender is kept for as long as a request of its could still be fresh. */
import type { HopSeal } from '../../shared/hop-seal.ts'

/** How far the clocks of two replicas may be apart, the way between them included, in milliseconds. */
export const MAX_CLOCK_SKEW_MS = 300_000

/** How far behind its newest request a sender's oldest may arrive. */
const WINDOW = 65_536

/** When the last request was heard, none that the sender has signed until then is fresh any more. */
const FORGET_MS = 2 * MAX_CLOCK_SKEW_MS

/** What became of a request. */
export type ReplayVerdict = 'fresh' | 'seen' | 'clock'

/** See the file comment. */
export class ReplayGuard {
  readonly #clock: () => number
  readonly #senders = new Map<string, SenderWindow>()
  #sweptAtMs = 0

  /** `clock`: Unix milliseconds. */
  constructor(clock: () => number = Date.now) {
    this.#clock = clock
  }

  /** Notes a request whose signature is good; only the first time it is `fresh`. */
  take({ from, sequence, sentAtMs }: HopSeal): ReplayVerdict {
    const nowMs = this.#clock()
    this.#sweep(nowMs)
    if (Math.abs(nowMs - sentAtMs) > MAX_CLOCK_SKEW_MS) return 'clock'
    let sender = this.#senders.get(from)
    if (sender === undefined) {
      sender = new SenderWindow()
      this.#senders.set(from, sender)
    }
    sender.heardAtMs = nowMs
    return sender.take(sequence) ? 'fresh' : 'seen'
  }

  /** How many senders are known. */
  get size(): number {
    return this.#senders.size
  }

  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptAtMs < MAX_CLOCK_SKEW_MS) return
    this.#sweptAtMs = nowMs
    for (const [from, { heardAtMs }] of this.#senders) {
      if (nowMs - heardAtMs > FORGET_MS) this.#senders.delete(from)
    }
  }
}

/** Which of the last `WINDOW` numbers were heard: a bit for each, used over and over. */
class SenderWindow {
  heardAtMs = 0
  readonly #bits = new Uint32Array(WINDOW / 32)
  #highest = -1

  take(sequence: number): boolean {
    if (sequence <= this.#highest - WINDOW) return false
    if (sequence > this.#highest) this.#advance(sequence)
    const index = sequence % WINDOW
    const word = index >>> 5
    const bit = 1 << (index & 31)
    const bits = this.#bits[word] ?? 0
    if ((bits & bit) !== 0) return false
    this.#bits[word] = bits | bit
    return true
  }

  #advance(sequence: number): void {
    if (sequence - this.#highest >= WINDOW) this.#bits.fill(0)
    else {
      for (let passed = this.#highest + 1; passed <= sequence; passed++) {
        const index = passed % WINDOW
        const word = index >>> 5
        this.#bits[word] = (this.#bits[word] ?? 0) & ~(1 << (index & 31))
      }
    }
    this.#highest = sequence
  }
}
