/** Picks what talks to a server's upstream, by its transport. */
import type { Config, ServerConfig, SessionsConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import { BoundUpstream } from './bound/bound-upstream.ts'
import { SharedTransport } from './bound/shared/shared-transport.ts'
import { SseTransport } from './bound/sse-transport.ts'
import { StdioTransport } from './bound/stdio-transport.ts'
import { clientOptions } from './client-options.ts'
import { passesAuthorization } from './forwarded-headers.ts'
import { StreamableHttpUpstream } from './streamable-http.ts'
import type { Upstream } from './upstream.ts'

/** How long an end of a session may be late, in seconds. */
const SPARE_SECONDS = 600

/**
 * The upstream of a server. Connects, or starts a process, when it is first called. Throws `ConfigError` when a file of `upstream.tls` can't be used.
 */
export function openUpstream(server: ServerConfig, { core, sessions }: Config, log: Log): Upstream {
  switch (server.upstream.transport) {
    case 'stdio':
      return openStdio(server, idleLimitMs(sessions), log)
    case 'sse':
      return new BoundUpstream({
        transport: new SseTransport({
          client: httpClientOf(server, log),
          keepsChallenge: passesAuthorization(server.upstream),
          maxEventBytes: core.maxResponseMessageBytes,
        }),
        initializeTimeoutMs: server.upstream.initializeTimeoutSeconds * 1_000,
        idleLimitMs: idleLimitMs(sessions),
      })
    case 'streamable_http':
      return new StreamableHttpUpstream(
        httpClientOf(server, log),
        passesAuthorization(server.upstream),
      )
  }
}

function httpClientOf(server: ServerConfig, log: Log): ReturnType<typeof clientOptions> {
  return clientOptions(server.upstream, (error) =>
    log.warn(
      { server: server.id, err: error },
      'renewed files of upstream.tls can not be used: connections are made with those before',
    ),
  )
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
