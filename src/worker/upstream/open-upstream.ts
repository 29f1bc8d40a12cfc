/** Picks what talks to a server's upstream, by its transport. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import { BoundUpstream } from './bound/bound-upstream.ts'
import { SseTransport } from './bound/sse-transport.ts'
import { StdioTransport } from './bound/stdio-transport.ts'
import { clientOptions } from './client-options.ts'
import { StreamableHttpUpstream } from './streamable-http.ts'
import type { Upstream } from './upstream.ts'

/**
 * The upstream of a server. Connects, or starts a process, when it is first called. `maxEventBytes`: the largest message of one that is bound to an event
 * stream. Throws `ConfigError` when a file of `upstream.tls` can't be used.
 */
export function openUpstream(server: ServerConfig, maxEventBytes: number, log: Log): Upstream {
  const { transport, startTimeoutSeconds, initializeTimeoutSeconds } = server.upstream
  switch (transport) {
    case 'stdio':
      return new BoundUpstream({
        transport: new StdioTransport(server, log),
        initializeTimeoutMs: startTimeoutSeconds * 1_000,
      })
    case 'sse':
      return new BoundUpstream({
        transport: new SseTransport({ client: httpClientOf(server, log), maxEventBytes }),
        initializeTimeoutMs: initializeTimeoutSeconds * 1_000,
      })
    case 'streamable_http':
      return new StreamableHttpUpstream(httpClientOf(server, log))
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
