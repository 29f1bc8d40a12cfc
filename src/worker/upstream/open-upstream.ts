/** Picks what talks to a server's upstream, by its transport. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import { BoundUpstream } from './bound/bound-upstream.ts'
import { StdioTransport } from './bound/stdio-transport.ts'
import { StreamableHttpUpstream } from './streamable-http.ts'
import type { Upstream } from './upstream.ts'

/** The upstream of a server. Connects, or starts a process, when it is first called. */
export function openUpstream(server: ServerConfig, log: Log): Upstream {
  const { transport, startTimeoutSeconds } = server.upstream
  switch (transport) {
    case 'stdio':
      return new BoundUpstream({
        transport: new StdioTransport(server, log),
        initializeTimeoutMs: startTimeoutSeconds * 1_000,
      })
    case 'sse':
    case 'streamable_http':
      return new StreamableHttpUpstream(server.upstream)
  }
}
