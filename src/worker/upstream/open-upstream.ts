/** Picks what talks to a server's upstream, by its transport. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import { BoundUpstream } from './bound/bound-upstream.ts'
import { SharedTransport } from './bound/shared/shared-transport.ts'
import { SseTransport } from './bound/sse-transport.ts'
import { StdioTransport } from './bound/stdio-transport.ts'
import { StreamableHttpUpstream } from './streamable-http.ts'
import type { Upstream } from './upstream.ts'

/** The upstream of a server; `maxEventBytes` bounds an event of a connection. Connects, or starts a process, when it is first called. */
export function openUpstream(server: ServerConfig, maxEventBytes: number, log: Log): Upstream {
  const { upstream } = server
  const onUnusableTls = (error: unknown): void =>
    log.warn(
      { server: server.id, err: error },
      'renewed files of upstream.tls can not be used: connections are made with those before',
    )
  switch (upstream.transport) {
    case 'stdio':
      return openStdio(server, log)
    case 'sse':
      return new BoundUpstream({
        transport: new SseTransport({ upstream, maxEventBytes, onUnusableTls }),
        initializeTimeoutMs: upstream.initializeTimeoutSeconds * 1_000,
      })
    case 'streamable_http':
      return new StreamableHttpUpstream(upstream, onUnusableTls)
  }
}

function openStdio(server: ServerConfig, log: Log): Upstream {
  const { process, startTimeoutSeconds, maxRestarts, restartWindowSeconds } = server.upstream
  const initializeTimeoutMs = startTimeoutSeconds * 1_000
  const transport = new StdioTransport(server, log)
  if (process === 'per_session') return new BoundUpstream({ transport, initializeTimeoutMs })
  const shared = new SharedTransport({
    serverId: server.id,
    transport,
    initializeTimeoutMs,
    maxRestarts,
    windowMs: restartWindowSeconds * 1_000,
    log,
  })
  return new BoundUpstream({ transport: shared, initializeTimeoutMs })
}
