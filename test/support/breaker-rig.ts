/** A replica in front of a scripted upstream, with a breaker whose times a test chooses, and what its health says. */
import type { Test } from 'tap'

import { eventually } from './eventually.ts'
import { startReplica } from './replica.ts'
import type { Replica } from './replica.ts'
import { startScriptedUpstream } from './upstreams/scripted-upstream.ts'
import type { Script, ScriptedUpstream } from './upstreams/scripted-upstream.ts'
import { send } from './wire.ts'
import type { WireAnswer } from './wire.ts'

/** Longer than any test, in seconds. */
export const HOUR = 3_600

/** See the file comment. */
export interface BreakerRig {
  readonly upstream: ScriptedUpstream
  readonly replica: Replica
  /** The endpoint of the server. */
  readonly url: string
}

/** Starts three workers. Pings come at start and then hardly ever, where `ping` does not say otherwise. Ended when the test ends. */
export async function startBreakerRig(
  t: Test,
  ping: Readonly<Record<string, unknown>> = {},
  server: Readonly<Record<string, unknown>> = {},
  sections: Readonly<Record<string, unknown>> = {},
): Promise<BreakerRig> {
  const upstream = await startScriptedUpstream()
  const replica = await startReplica({
    config: {
      core: {
        workers: 3,
        upstream_ping: {
          interval_seconds: HOUR,
          timeout_seconds: 1,
          failure_threshold: 3,
          open_cooldown_seconds: HOUR,
          half_open_probe_allowance: 1,
          ...ping,
        },
      },
      ...sections,
      servers: [{ id: 'one', mount_path: '/mcp/one', upstream: { url: upstream.url }, ...server }],
    },
  })
  t.teardown(async () => {
    await replica.stop()
    await upstream.stop()
  })
  await eventually('the ping at start is answered', () => upstream.pings.length > 0)
  return { upstream, replica, url: `${replica.url}/mcp/one` }
}

/** What `/healthz` says of a server. */
export interface ServerReport {
  readonly server_id: string
  readonly status: string
  readonly detail?: string
  readonly breaker: { readonly state: string; readonly consecutive_failures: number }
  readonly ping: Readonly<Record<string, unknown>>
}

/** What `/healthz` says; `server` is the first one. */
export interface HealthReport {
  readonly status: number
  readonly body: string
  readonly reason: string | undefined
  readonly startup: Readonly<Record<string, unknown>>
  readonly servers: readonly ServerReport[]
  readonly server: ServerReport
}

/** Asks for health as somebody who is not known. */
export async function healthOf(replica: { readonly url: string }): Promise<HealthReport> {
  const { status, body } = await send(`${replica.url}/healthz`, { method: 'GET' })
  // What `/healthz` documents.
  const report = JSON.parse(body) as {
    readonly degraded_reason?: string
    readonly startup: Readonly<Record<string, unknown>>
    readonly servers: readonly ServerReport[]
  }
  const { servers, startup } = report
  const [server] = servers
  if (server === undefined) throw new Error(`no server in ${body}`)
  return { status, body, reason: report.degraded_reason, startup, servers, server }
}

/** Waits until all breakers are in a state. */
export async function untilState(replica: { readonly url: string }, state: string): Promise<void> {
  await eventually(`the breaker is ${state}`, async () =>
    (await healthOf(replica)).servers.every(({ breaker }) => breaker.state === state),
  )
}

/** Answers 500. */
export const fails: Script = (_request, response) => {
  response.writeHead(500, { 'content-type': 'text/plain' }).end('broken')
}

/** The code of an error of the adapter. */
export function codeOf(answer: WireAnswer): unknown {
  const { error } = answer.json()
  // What the catalogue's errors have.
  const data = error?.data as { readonly code?: string } | undefined
  return data?.code
}
