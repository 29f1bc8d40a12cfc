/** Tells of trouble that repeats itself once a minute, with how often it came. */

const INTERVAL_MS = 60_000

/** See the file comment. */
export class RareWarnings {
  readonly #tell: (message: string, details: Readonly<Record<string, unknown>>) => void
  readonly #clock: () => number
  readonly #told = new Map<string, { atMs: number; since: number }>()

  /** `clock` is monotonic, in milliseconds. Messages must be few: each is remembered. */
  constructor(
    tell: (message: string, details: Readonly<Record<string, unknown>>) => void,
    clock: () => number = () => performance.now(),
  ) {
    this.#tell = tell
    this.#clock = clock
  }

  warn(message: string, details: Readonly<Record<string, unknown>>): void {
    const nowMs = this.#clock()
    const told = this.#told.get(message)
    if (told !== undefined && nowMs - told.atMs < INTERVAL_MS) {
      told.since++
      return
    }
    this.#told.set(message, { atMs: nowMs, since: 0 })
    const repeated = told?.since ?? 0
    this.#tell(message, repeated === 0 ? details : { ...details, repeated })
  }
}
