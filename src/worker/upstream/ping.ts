/** One ping of an upstream, and what it says of it. */
import { AdapterError } from '../../shared/errors.ts'
import type { Breaker } from './breaker.ts'
import { failureOf } from './upstream-failure.ts'

/** An upstream without a time limit for calls is believed to be at work for so long, in milliseconds. */
const LONGEST_WORK_MS = 300_000

/** Who is told, and what is known of the upstream. */
export interface PingedUpstream {
  readonly breaker: Breaker
  /** How long a call may take, in milliseconds; null for no limit. */
  readonly callTimeoutMs: number | null
}

/** What surrounds a ping. */
export interface PingOptions {
  /** Asks; rejects with `AdapterError` when there is no answer. */
  readonly ask: () => Promise<void>
  /** Whether an upstream is asked that is still waited for at start. */
  readonly isStart: boolean
  /** Whether a failure may count now. */
  readonly isDue: (sentAtMs: number) => boolean
  /** Whether nobody wants to know any more. */
  readonly isStopped: () => boolean
}

/** Asks, and tells the breaker. Never rejects. */
export async function ping(target: PingedUpstream, options: PingOptions): Promise<void> {
  const { ask, isStart, isDue, isStopped } = options
  const { breaker } = target
  const sentAtMs = performance.now()
  try {
    await ask()
  } catch (error) {
    const told = error instanceof AdapterError ? error : undefined
    if (told?.code === 'ADAPTER_STOPPING' || isStopped()) return
    const failure = (told && failureOf(told)) ?? 'unreachable'
    const isCounted = !(failure === 'timeout' && isAtWork(target, sentAtMs)) && isDue(sentAtMs)
    breaker.pingFailed(failure, performance.now() - sentAtMs, isCounted, told?.message)
    return
  }
  if (!isStopped()) breaker.pingAnswered(performance.now() - sentAtMs, isStart)
}

/**
 * A server that does one thing at a time does not answer pings meanwhile. It is believed to be at work when it has answered something since the ping was
 * sent, or has requests in hand and its last answer is not longer ago than a request may take.
 */
function isAtWork({ breaker, callTimeoutMs }: PingedUpstream, sentAtMs: number): boolean {
  const { vitals } = breaker
  if (vitals.hasAnsweredWithin(Math.floor(performance.now() - sentAtMs))) return true
  return vitals.inFlight > 0 && vitals.hasAnsweredWithin(callTimeoutMs ?? LONGEST_WORK_MS)
}
