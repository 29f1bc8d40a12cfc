/**
 * Why an upstream that pings ended a session, as a recorder between it and the replicas can tell. Playwright sends a ping three seconds after the answer
 * to the one before, and ends a session that has not answered one within five. All bounds here are on one side only: whatever a busy machine delays
 * makes the time in which a lost ping may have been sent longer, never shorter.
 */
import type { PassedRequest } from './recording-proxy.ts'
import { gapsOf, streamsOf } from './stream-gaps.ts'

/** Milliseconds from an answer to the next ping, and from a ping to the end of the session. */
export const PING_EVERY_MS = 3_000
const PING_TIMEOUT_MS = 5_000
/** Timers of Node count whole milliseconds, and may be early by one. */
const TIMER_STEP_MS = 2

/** See `whyLost`. */
export type Loss = 'a ping was lost with its reader' | 'a ping was sent while there was no stream'

/** When an upstream session was seen to be over; undefined while it is not. */
export function endOf(upstreamId: string, passed: readonly PassedRequest[]): number | undefined {
  const seen = passed
    .filter(({ sessionId }) => sessionId === upstreamId)
    .flatMap(({ method, status, isWhole, answeredAtMs, endedAtMs }) => {
      if (status === 404) return answeredAtMs ?? []
      return method === 'GET' && status === 200 && isWhole ? (endedAtMs ?? []) : []
    })
  return seen.length === 0 ? undefined : Math.min(...seen)
}

/** Whether a ping on the present stream of this upstream session was answered: then none had been lost before. */
export function isAnswering(upstreamId: string, passed: readonly PassedRequest[]): boolean {
  const stream = streamsOf(upstreamId, passed).at(-1)
  return stream?.pings.some(({ id }) => answerTo(upstreamId, id, passed) !== undefined) ?? false
}

/** Why an upstream session is over; undefined when a reader that stayed did not answer, or nothing explains it. */
export function whyLost(upstreamId: string, passed: readonly PassedRequest[]): Loss | undefined {
  const endedAtMs = endOf(upstreamId, passed)
  if (endedAtMs === undefined) return undefined
  let answeredAtMs = -Infinity
  for (const stream of streamsOf(upstreamId, passed)) {
    for (const { id } of stream.pings) {
      const answer = answerTo(upstreamId, id, passed)
      if (answer !== undefined) answeredAtMs = answer.beganAtMs
      // One ping is under way at a time: this is the one that ended the session.
      else return stream.isWhole ? undefined : 'a ping was lost with its reader'
    }
  }
  const earliestMs = answeredAtMs + PING_EVERY_MS - TIMER_STEP_MS
  const latestMs = endedAtMs - PING_TIMEOUT_MS + TIMER_STEP_MS
  const hadNoStream = gapsOf(upstreamId, passed).some(
    ({ fromMs, toMs }) => toMs >= earliestMs && fromMs <= latestMs,
  )
  return hadNoStream ? 'a ping was sent while there was no stream' : undefined
}

/** The accepted one. */
function answerTo(
  upstreamId: string,
  pingId: unknown,
  passed: readonly PassedRequest[],
): PassedRequest | undefined {
  return passed.find(
    ({ sessionId, answersId, status }) =>
      sessionId === upstreamId && answersId === pingId && (status === 202 || status === 200),
  )
}
