/** The times at which an upstream session had no stream, as a recorder between it and the replicas saw them. */
import type { PassedRequest } from './recording-proxy.ts'

/** A gap, in milliseconds of `performance.now()`. The upstream's own view of it lies within. */
export interface StreamGap {
  readonly fromMs: number
  readonly toMs: number
}

/** Between each stream of an upstream session that its reader left and the next one that was answered. */
export function gapsOf(upstreamId: string, passed: readonly PassedRequest[]): StreamGap[] {
  const streams = streamsOf(upstreamId, passed)
  return streams.slice(1).flatMap((next, index) => {
    const before = streams[index]
    const { endedAtMs: fromMs } = before ?? {}
    const { answeredAtMs: toMs } = next
    return fromMs === undefined || toMs === undefined ? [] : [{ fromMs, toMs }]
  })
}

/** The streams of an upstream session that there were, in order. */
export function streamsOf(upstreamId: string, passed: readonly PassedRequest[]): PassedRequest[] {
  return passed.filter(
    ({ method, sessionId, status }) =>
      method === 'GET' && sessionId === upstreamId && status === 200,
  )
}

/** How long gaps last, in milliseconds. */
export function lengthsOf(gaps: readonly StreamGap[]): number[] {
  return gaps.map(({ fromMs, toMs }) => toMs - fromMs)
}

/** The value below which this part (0 to 1) of the times lies. */
export function quantile(times: readonly number[], part: number): number {
  const sorted = times.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

/** Times in milliseconds, as a sentence. */
export function describeTimes(times: readonly number[]): string {
  const at = (part: number): number => Math.round(quantile(times, part))
  return `min ${at(0)}, median ${at(0.5)}, 90 % ${at(0.9)}, max ${at(1)} of ${times.length}`
}
