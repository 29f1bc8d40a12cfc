/** What an HTTP client towards an upstream is made of, whatever transport it serves. */
import type { UpstreamConfig } from '../../shared/config/config.ts'
import { ClientTls } from './http1/client-tls.ts'
import type { Http1ClientOptions } from './http1/http1-client.ts'
import { proxyOf } from './http1/proxy.ts'

/** Throws `ConfigError` when a file of `tls` can't be used; one that is renewed later and can't be is only told of. */
export function clientOptions(
  config: UpstreamConfig,
  onUnusableTls: (error: unknown) => void,
): Omit<Http1ClientOptions, 'keepsHeader'> {
  const { tls, proxyUrl } = config
  const isOwnTls = [tls.caFile, tls.certFile, tls.serverName].some((field) => field !== null)
  return {
    // Checked with the configuration.
    url: new URL(config.url ?? ''),
    staticHeaders: Object.entries(config.staticHeaders).flat(),
    maxConnections: config.maxConnections,
    connectTimeoutMs: config.connectTimeoutSeconds * 1_000,
    insecureTls: config.insecureTls,
    tls: isOwnTls ? new ClientTls(tls, onUnusableTls) : undefined,
    proxy: proxyUrl === null ? undefined : proxyOf(new URL(proxyUrl)),
  }
}
