/** Picks what talks to a server's upstream, by its transport. */
import type { Config, ServerConfig, SessionsConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import { BoundUpstream } from './bound/bound-upstream.ts'
import { SharedTransport } from './bound/shared/shared-transport.ts'
import { SseTransport } from './bound/sse-transport.ts'
import { StdioTransport } from './bound/stdio-transport.ts'
import { StreamableHttpUpstream } from './streamable-http.ts'
import type { Upstream } from './upstream.ts'

/** Longest time from asking for an event stream to the answer to `initialize`, in milliseconds. */
const SSE_INITIALIZE_TIMEOUT_MS = 60_000

/** How long an end of a session may be late, in seconds. */
const SPARE_SECONDS = 600

/** The upstream of a server. Connects, or starts a process, when it is first called. */
export function openUpstream(server: ServerConfig, { core, sessions }: Config, log: Log): Upstream {
  switch (server.upstream.transport) {
    case 'stdio':
      return openStdio(server, idleLimitMs(sessions), log)
    case 'sse':
      return new BoundUpstream({
        transport: new SseTransport({
          upstream: server.upstream,
          maxEventBytes: core.maxResponseMessageBytes,
        }),
        initializeTimeoutMs: SSE_INITIALIZE_TIMEOUT_MS,
        idleLimitMs: idleLimitMs(sessions),
      })
    case 'streamable_http':
      return new StreamableHttpUpstream(server.upstream)
  }
}

function openStdio(server: ServerConfig, idleLimit: number | null, log: Log): Upstream {
  const { process, startTimeoutSeconds, maxRestarts, restartWindowSeconds } = server.upstream
  const common = { initializeTimeoutMs: startTimeoutSeconds * 1_000, idleLimitMs: idleLimit }
  const transport = new StdioTransport(server, log)
  if (process === 'per_session') return new BoundUpstream({ transport, ...common })
  const shared = new SharedTransport({
    serverId: server.id,
    transport,
    initializeTimeoutMs: common.initializeTimeoutMs,
    maxRestarts,
    windowMs: restartWindowSeconds * 1_000,
    log,
  })
  return new BoundUpstream({ transport: shared, ...common })
}

/** When a session that is not used is gone for sure, with some time to spare for the sweep that ends it. */
function idleLimitMs({
  idleTtlSeconds,
  allowRevival,
  tombstoneTtlSeconds,
}: SessionsConfig): number | null {
  if (idleTtlSeconds === null) return null
  const seconds = idleTtlSeconds + (allowRevival ? tombstoneTtlSeconds : 0)
  return (seconds + SPARE_SECONDS) * 1_000
}
