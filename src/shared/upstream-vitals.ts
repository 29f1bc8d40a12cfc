/**
 * What is known of the upstreams' health, in memory that all threads of a replica share: every worker writes it and judges by it, the primary reads it.
 * So one replica has one breaker a server, whichever worker saw the failures, and the state outlives a worker; a look at it costs what a look at memory
 * costs, where a message to each thread would be late and would cost each request.
 */

/** What a breaker does: lets requests pass, tries a few, refuses. In this order in memory. */
const BREAKER_STATES = ['closed', 'half_open', 'open'] as const

/** See `BREAKER_STATES`. */
export type BreakerState = (typeof BREAKER_STATES)[number]

/** Why an upstream counts as failed. A closed list: nothing that an upstream wrote gets into a report. */
const FAILURES = ['none', 'unreachable', 'timeout', 'invalid_answer', 'server_error'] as const

/** See `FAILURES`. */
export type UpstreamFailure = Exclude<(typeof FAILURES)[number], 'none'>

/** A line of a processor's cache: what different threads write often must not share one. */
const LINE_BYTES = 64
const COUNTS_PER_LINE = 16
/** Counts and times that workers share. */
const SHARED_LINES = 2

/** Places of counts in a server's first line. */
const STATE = 0
const FAILED = 1
const SUCCEEDED = 2
const TRIALS = 3
const IS_SILENT = 4
const HAS_ANSWERED = 5
const LAST_FAILURE = 6
const LATENCY_MS = 7
const IS_PROBED = 8
/** Which worker asks the upstream itself, counted from 1; 0 for none. */
const ASKED_BY = 9

/** Places of times in its second line. */
const OPEN_UNTIL = 0
const PING_SUCCESS_AT = 1
const PING_FAILURE_AT = 2
const ANSWERED_AT = 3
const ANSWERED_TICK = 4
const CHANGED_AT = 5

/** Places in a worker's own line. */
const IN_FLIGHT = 0
const OWN_TRIALS = 1

/** What is told of one upstream; times are Unix milliseconds, null for never. */
export interface VitalsReport {
  readonly state: BreakerState
  /** Failures in a row. */
  readonly failures: number
  /** While half-open: trials that succeeded, and that have no outcome yet. */
  readonly successes: number
  readonly trials: number
  /** Requests under way over all workers. */
  readonly inFlight: number
  /** Whether it is asked in the background. */
  readonly isProbed: boolean
  /** Whether it ever answered. */
  readonly hasAnswered: boolean
  /** Of the last ping that succeeded. */
  readonly latencyMs: number | null
  readonly lastFailure: UpstreamFailure | null
  readonly pingSuccessAtMs: number | null
  readonly pingFailureAtMs: number | null
  /** When a ping or a request was answered; a time of requests is that of the first one after a look at them. */
  readonly answeredAtMs: number | null
  /** When the breaker changed its state. */
  readonly changedAtMs: number | null
}

/** A clock that never goes back and is the same in all threads, in milliseconds. */
export function tickMs(): bigint {
  return process.hrtime.bigint() / 1_000_000n
}

/** The vitals of all servers of a replica. */
export class UpstreamVitals {
  /** Crosses to other threads, which make their own object of it. */
  readonly memory: SharedArrayBuffer
  readonly #workers: number

  /** Makes the memory, or takes what another thread made for the same numbers. */
  constructor(
    numbers: { readonly servers: number; readonly workers: number },
    memory = new SharedArrayBuffer(numbers.servers * (SHARED_LINES + numbers.workers) * LINE_BYTES),
  ) {
    this.memory = memory
    this.#workers = numbers.workers
  }

  /** Those of the server with this index in `config.servers`. */
  server(index: number): ServerVitals {
    const offset = index * (SHARED_LINES + this.#workers) * LINE_BYTES
    return new ServerVitals(this.memory, offset, this.#workers)
  }
}

/** The vitals of one server. Each method is safe beside any other in any thread; none waits. */
export class ServerVitals {
  readonly #counts: Int32Array
  readonly #times: BigInt64Array
  readonly #own: Int32Array

  constructor(memory: SharedArrayBuffer, offset: number, workers: number) {
    this.#counts = new Int32Array(memory, offset, COUNTS_PER_LINE)
    this.#times = new BigInt64Array(memory, offset + LINE_BYTES, LINE_BYTES / 8)
    const ownOffset = offset + SHARED_LINES * LINE_BYTES
    this.#own = new Int32Array(memory, ownOffset, workers * COUNTS_PER_LINE)
  }

  /** Whether every request may pass: what each asks. */
  get isClosed(): boolean {
    return Atomics.load(this.#counts, STATE) === 0
  }

  /** Whether nobody has noted an answer since the last look (`listen`): what each answer asks. */
  get isSilent(): boolean {
    return Atomics.load(this.#counts, IS_SILENT) === 1
  }

  get state(): BreakerState {
    return BREAKER_STATES[Atomics.load(this.#counts, STATE)] ?? 'closed'
  }

  get hasAnswered(): boolean {
    return Atomics.load(this.#counts, HAS_ANSWERED) === 1
  }

  /** Whether it is asked in the background; one that is not can't be waited for. */
  get isProbed(): boolean {
    return Atomics.load(this.#counts, IS_PROBED) === 1
  }

  set isProbed(is: boolean) {
    Atomics.store(this.#counts, IS_PROBED, is ? 1 : 0)
  }

  /** From here on the next answer is noted. */
  listen(): void {
    Atomics.store(this.#counts, IS_SILENT, 1)
  }

  /** Notes an answer, and that the next ones need not be. */
  noteAnswer(): void {
    Atomics.store(this.#counts, IS_SILENT, 0)
    Atomics.store(this.#counts, HAS_ANSWERED, 1)
    Atomics.store(this.#times, ANSWERED_TICK, tickMs())
    Atomics.store(this.#times, ANSWERED_AT, BigInt(Date.now()))
  }

  /** Whether an answer was noted in the last `ms`. */
  hasAnsweredWithin(ms: number): boolean {
    return this.hasAnswered && tickMs() - Atomics.load(this.#times, ANSWERED_TICK) < BigInt(ms)
  }

  /** One more failure in a row; answers how many that makes. */
  addFailure(): number {
    return Atomics.add(this.#counts, FAILED, 1) + 1
  }

  clearFailures(): void {
    Atomics.store(this.#counts, FAILED, 0)
  }

  /** One more success while half-open; answers how many that makes. */
  addSuccess(): number {
    return Atomics.add(this.#counts, SUCCEEDED, 1) + 1
  }

  clearSuccesses(): void {
    Atomics.store(this.#counts, SUCCEEDED, 0)
  }

  /** Changes the state; false when it was not `from` any more, because another thread was quicker. */
  change(from: BreakerState, to: BreakerState): boolean {
    const [before, after] = [BREAKER_STATES.indexOf(from), BREAKER_STATES.indexOf(to)]
    if (Atomics.compareExchange(this.#counts, STATE, before, after) !== before) return false
    Atomics.store(this.#times, CHANGED_AT, BigInt(Date.now()))
    return true
  }

  /** How long it is to stay open, in milliseconds; not above 0 when that is over. */
  get openForMs(): number {
    return Number(Atomics.load(this.#times, OPEN_UNTIL) - tickMs())
  }

  /** Before it is opened: for how long. */
  set openForMs(ms: number) {
    Atomics.store(this.#times, OPEN_UNTIL, tickMs() + BigInt(ms))
  }

  /** Takes one of `allowed` places for trials; false when all are taken. */
  takeTrial(worker: number, allowed: number): boolean {
    for (;;) {
      const taken = Atomics.load(this.#counts, TRIALS)
      if (taken >= allowed) return false
      if (Atomics.compareExchange(this.#counts, TRIALS, taken, taken + 1) === taken) break
    }
    Atomics.add(this.#own, worker * COUNTS_PER_LINE + OWN_TRIALS, 1)
    return true
  }

  endTrial(worker: number): void {
    Atomics.sub(this.#counts, TRIALS, 1)
    Atomics.sub(this.#own, worker * COUNTS_PER_LINE + OWN_TRIALS, 1)
  }

  /** Whether this worker is the one to ask the upstream itself; false while one of the replica does. After true, `endAsking` must follow. */
  beginAsking(worker: number): boolean {
    return Atomics.compareExchange(this.#counts, ASKED_BY, 0, worker + 1) === 0
  }

  /** Does nothing when it is another worker that asks. */
  endAsking(worker: number): void {
    Atomics.compareExchange(this.#counts, ASKED_BY, worker + 1, 0)
  }

  /** Requests that a worker has under way. Only that worker writes it, so that it needs no lock. */
  setInFlight(worker: number, count: number): void {
    this.#own[worker * COUNTS_PER_LINE + IN_FLIGHT] = count
  }

  /** A worker starts: what a worker before it had in hand is gone. */
  resetWorker(worker: number): void {
    this.setInFlight(worker, 0)
    this.endAsking(worker)
    const lost = Atomics.exchange(this.#own, worker * COUNTS_PER_LINE + OWN_TRIALS, 0)
    if (lost > 0) Atomics.sub(this.#counts, TRIALS, lost)
  }

  /** Requests under way over all workers. */
  get inFlight(): number {
    let sum = 0
    for (let i = IN_FLIGHT; i < this.#own.length; i += COUNTS_PER_LINE) sum += this.#own[i] ?? 0
    return sum
  }

  notePing(outcome: { readonly latencyMs: number } | { readonly failure: UpstreamFailure }): void {
    const now = BigInt(Date.now())
    if ('failure' in outcome) {
      this.noteFailure(outcome.failure)
      Atomics.store(this.#times, PING_FAILURE_AT, now)
    } else {
      Atomics.store(this.#counts, LATENCY_MS, Math.round(outcome.latencyMs) + 1)
      Atomics.store(this.#times, PING_SUCCESS_AT, now)
    }
  }

  noteFailure(failure: UpstreamFailure): void {
    Atomics.store(this.#counts, LAST_FAILURE, FAILURES.indexOf(failure))
  }

  /** Everything at once, though not of one moment. */
  report(): VitalsReport {
    const count = (place: number): number => Atomics.load(this.#counts, place)
    const time = (place: number): number | null => {
      const ms = Number(Atomics.load(this.#times, place))
      return ms === 0 ? null : ms
    }
    const failure = FAILURES[count(LAST_FAILURE)] ?? 'none'
    const latency = count(LATENCY_MS)
    return {
      state: this.state,
      failures: count(FAILED),
      successes: count(SUCCEEDED),
      trials: count(TRIALS),
      inFlight: this.inFlight,
      isProbed: this.isProbed,
      hasAnswered: this.hasAnswered,
      latencyMs: latency === 0 ? null : latency - 1,
      lastFailure: failure === 'none' ? null : failure,
      pingSuccessAtMs: time(PING_SUCCESS_AT),
      pingFailureAtMs: time(PING_FAILURE_AT),
      answeredAtMs: time(ANSWERED_AT),
      changedAtMs: time(CHANGED_AT),
    }
  }
}
