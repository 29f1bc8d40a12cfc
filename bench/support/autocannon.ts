/** Saturating load by autocannon. */
import { createRequire } from 'node:module'

import type { Outcome, Traffic } from './traffic.ts'

/** The parts of autocannon that are used; the package has no types. */
type Autocannon = (options: {
  readonly url: string
  readonly method: string
  readonly connections: number
  readonly duration: number
  readonly timeout: number
  setupClient(client: Client): void
}) => Promise<{
  readonly '2xx': number
  readonly non2xx: number
  readonly errors: number
  readonly duration: number
  readonly latency: { readonly p50: number; readonly p99: number }
  readonly throughput: { readonly total: number }
}>

interface Client {
  setHeadersAndBody(headers: Readonly<Record<string, string>>, body: string): void
}

// As its documentation describes it.
const autocannon = createRequire(import.meta.url)('autocannon') as Autocannon

/** Posts as fast as answers come for `traffic.seconds`; each connection keeps one session and one body. */
export async function saturate(traffic: Traffic): Promise<Outcome> {
  const { url, headers, sessionIds, bodies, connections, seconds } = traffic
  let clients = 0
  const result = await autocannon({
    url,
    method: 'POST',
    connections,
    duration: seconds,
    timeout: 20,
    setupClient: (client) => {
      const index = clients++
      const sessionId = sessionIds[index % sessionIds.length]
      client.setHeadersAndBody(
        { ...headers, ...(sessionId === undefined ? {} : { 'mcp-session-id': sessionId }) },
        bodies[index % bodies.length] ?? '',
      )
    },
  })
  return {
    requests: result['2xx'],
    failures: result.non2xx + result.errors,
    seconds: result.duration,
    bytes: result.throughput.total,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
  }
}
