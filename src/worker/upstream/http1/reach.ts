/** How an upstream is reached over HTTP, as its configuration says, whatever is sent there. */
import type { UpstreamConfig } from '../../../shared/config/config.ts'
import { ClientTls } from './client-tls.ts'
import type { Http1ClientOptions } from './http1-client.ts'
import { proxyOf } from './proxy.ts'

/** Throws `ConfigError` when a file of `tls` can't be used; one that is renewed later and can't be is only told of. */
export function reachOf(
  upstream: UpstreamConfig,
  onUnusableTls: (error: unknown) => void,
): Omit<Http1ClientOptions, 'maxConnections' | 'keepsHeader'> {
  const { tls, proxyUrl } = upstream
  const isOwnTls = [tls.caFile, tls.certFile, tls.serverName].some((field) => field !== null)
  return {
    // Checked with the configuration.
    url: new URL(upstream.url ?? ''),
    staticHeaders: Object.entries(upstream.staticHeaders).flat(),
    connectTimeoutMs: upstream.connectTimeoutSeconds * 1_000,
    insecureTls: upstream.insecureTls,
    tls: isOwnTls ? new ClientTls(tls, onUnusableTls) : undefined,
    proxy: proxyUrl === null ? undefined : proxyOf(new URL(proxyUrl)),
  }
}
