/** Takes part in the election of the maintainer, and does its work while it is the one: runs of the sweeper, and counters put right. */
import type { StateStore } from '../../shared/state/store.ts'
import { SYSTEM_CLOCK, type Clock } from './lease.ts'
import type { MaintenanceLock, Tenure } from './maintenance-lock.ts'
import type { MaintenanceReport, Sweeper } from './sweeper.ts'

/** How a maintainer works. */
export interface MaintainerOptions {
  readonly lock: MaintenanceLock
  readonly sweeper: Sweeper
  readonly store: Pick<StateStore, 'repairCounters'>
  /** Between the end of one run and the next, in milliseconds; null: none. */
  readonly intervalMs: number | null
  /** Between two attempts to take or renew the lock, in milliseconds: well below its lease. */
  readonly renewMs: number
  /** Counters are put right in the first run of a tenure and every so many after it; null: never, they can't be wrong. */
  readonly repairEvery: number | null
  /** Done at the beginning of a tenure, before its first run. `isFirstAnswer`: there was no other maintainer when this one began. */
  readonly onElected?: (tenure: Tenure, isFirstAnswer: boolean) => Promise<void>
  readonly onReport?: (report: MaintenanceReport) => void
  /** Counters were wrong and are right now. */
  readonly onRepaired?: (repair: { readonly sessions: number; readonly bytes: number }) => void
  /** An attempt or a run failed: store or disk did not answer. It is tried again. */
  readonly onError?: (error: unknown) => void
  readonly clock?: Clock
}

/**
 * A run comes no sooner after an election, in milliseconds: two rounds in which every worker says what it works for. When the store itself was away,
 * nobody could say so for as long, and what is under way looks abandoned.
 */
const SETTLE_MS = 10_000

/** See the file comment. */
export class Maintainer {
  readonly #options: MaintainerOptions
  readonly #clock: Clock
  #timer: NodeJS.Timeout | undefined
  #tick: Promise<void> | undefined
  #work: Promise<void> | undefined
  #tenure: Tenure | undefined
  #runsOfTenure = 0
  #isFirstAnswer = true
  #dueAtMs = Number.POSITIVE_INFINITY
  #isStopping = false
  /** The last run that finished; undefined before the first. */
  lastReport: MaintenanceReport | undefined

  constructor(options: MaintainerOptions) {
    this.#options = options
    this.#clock = options.clock ?? SYSTEM_CLOCK
  }

  /** Whether this is the maintainer now. */
  get isElected(): boolean {
    return this.#tenure?.holds === true
  }

  /**
   * Begins: tries to be elected at once, and when it is, waits for what is to be done then. The first run comes an interval later. Failures go to
   * `onError`.
   */
  async start(): Promise<void> {
    if (this.#isStopping || this.#timer !== undefined) return
    const { intervalMs, renewMs } = this.#options
    if (intervalMs !== null) this.#dueAtMs = this.#clock.monotonicMs() + intervalMs
    const begin = this.#attempt()
    this.#timer = setInterval(() => void this.#attempt(), Math.min(renewMs, intervalMs ?? renewMs))
    this.#timer.unref()
    await begin
    await this.#work
  }

  /** No run begins any more; the one under way ends after its present step, and somebody else may take over at once. */
  async stop(): Promise<void> {
    this.#isStopping = true
    clearInterval(this.#timer)
    await this.#options.sweeper.stop()
    await this.#tick
    await this.#work
    await this.#options.lock.release()
  }

  /** Never rejects. */
  #attempt(): Promise<void> {
    this.#tick ??= this.#renew()
      .catch((error: unknown) => this.#options.onError?.(error))
      .finally(() => (this.#tick = undefined))
    return this.#tick
  }

  /** Work goes on beside the renewals. */
  async #renew(): Promise<void> {
    const tenure = await this.#options.lock.hold()
    const isFirstAnswer = this.#isFirstAnswer
    this.#isFirstAnswer = false
    if (this.#isStopping || tenure === undefined || this.#work !== undefined) return
    const isNew = tenure !== this.#tenure
    const nowMs = this.#clock.monotonicMs()
    if (isNew) {
      this.#tenure = tenure
      this.#runsOfTenure = 0
      const { intervalMs } = this.#options
      this.#dueAtMs = Math.max(this.#dueAtMs, nowMs + Math.min(intervalMs ?? 0, SETTLE_MS))
    }
    const isDue = nowMs >= this.#dueAtMs
    if (!isNew && !isDue) return
    this.#work = this.#perform(tenure, { isNew, isFirstAnswer, isDue })
      .catch((error: unknown) => this.#options.onError?.(error))
      .finally(() => (this.#work = undefined))
  }

  async #perform(
    tenure: Tenure,
    { isNew, isFirstAnswer, isDue }: { isNew: boolean; isFirstAnswer: boolean; isDue: boolean },
  ): Promise<void> {
    const { intervalMs, onElected, sweeper, onReport } = this.#options
    if (isNew) await onElected?.(tenure, isFirstAnswer)
    if (!isDue) return
    try {
      const report = await sweeper.runOnce(tenure)
      this.lastReport = report
      onReport?.(report)
      await this.#repair(tenure)
    } finally {
      this.#dueAtMs = this.#clock.monotonicMs() + (intervalMs ?? Number.POSITIVE_INFINITY)
    }
  }

  async #repair(tenure: Tenure): Promise<void> {
    const { repairEvery, store, onRepaired } = this.#options
    if (repairEvery === null || this.#isStopping || !(await tenure.renew())) return
    if (this.#runsOfTenure++ % repairEvery !== 0) return
    const repair = await store.repairCounters(tenure.fence)
    if (repair !== 'fenced' && (repair.sessions !== 0 || repair.bytes !== 0)) onRepaired?.(repair)
  }
}
