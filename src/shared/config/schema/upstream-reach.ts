/** `servers[].upstream.tls` and `.proxy_url`: how an upstream is reached when the network asks for more than an address. */

import { z } from 'zod'

import { hasReadableUser, isHttpUrl, section, text, UNREADABLE_USER } from './fields.ts'

/** `servers[].upstream.tls`. */
export const upstreamTlsSchema = section({
  ca_file: text()
    .nullable()
    .default(null)
    .describe(
      'PEM file with the authorities to trust, in place of the usual public ones; also for an `https://` proxy. Read at start, and again for new connections once it has changed.',
    ),
  cert_file: text()
    .nullable()
    .default(null)
    .describe(
      'PEM file with the certificate to show to the upstream and those that it was signed with; needs `key_file`. Read as `ca_file`.',
    ),
  key_file: text()
    .nullable()
    .default(null)
    .describe('PEM file with the private key of `cert_file`. Read as `ca_file`.'),
  key_passphrase: z
    .string()
    .nullable()
    .default(null)
    .describe('What the key is locked with. Secret.'),
  server_name: text()
    .nullable()
    .default(null)
    .describe(
      'Name that the certificate of the upstream must have, and that it is told (SNI); null for the `Host` of `static_headers`, else that of the URL.',
    ),
})

/** `servers[].upstream.proxy_url`. */
export function proxyUrl() {
  return z
    .string()
    .trim()
    .refine((url) => url === '' || isProxyUrl(url), {
      error:
        'must be http:// or https:// with a host, perhaps user:password@ and a port, and no path, such as http://proxy.example:3128',
    })
    .refine(hasReadableUser, { error: UNREADABLE_USER })
    .transform((url) => (url === '' ? null : url))
    .nullable()
    .default(null)
    .describe(
      'HTTP proxy that this upstream is reached through: a tunnel (`CONNECT`) for `https://` upstreams, whole URLs for `http://` ones. `user:password@` in it is sent to the proxy as Basic authentication; secret. Null for none: variables such as `HTTPS_PROXY` are not read.',
    )
}

function isProxyUrl(url: string): boolean {
  if (!isHttpUrl(url)) return false
  const { pathname, search, hash } = new URL(url)
  return pathname === '/' && search === '' && hash === ''
}
