/** `core.replica_hop`: how replicas, and the workers of one, reach each other for what is bound to a connection. */

import { z } from 'zod'

import { integer, isHttpUrl, section, text } from './fields.ts'

/** `core.replica_hop`. */
export const replicaHopSchema = section({
  host: text()
    .nullable()
    .default(null)
    .describe(
      'Address to listen on for other replicas; null for `core.host`. Nothing listens while all servers are `streamable_http` and `core.legacy_sse` is off; without Redis only the loopback is used.',
    ),
  port: integer({ min: 1, max: 65535 })
    .nullable()
    .default(null)
    .describe(
      'Port to listen on for other replicas; null for any free one. Set it where a firewall stands between replicas.',
    ),
  advertised_url: z
    .string()
    .trim()
    .refine(isOrigin, 'must be http:// or https://, a host and a port, and nothing more')
    .transform((url) => new URL(url).origin)
    .nullable()
    .default(null)
    .describe(
      'Where other replicas reach this one, such as http://10.0.0.5:8933; null for the address that is listened on, or, when that is all of them, the first of this machine.',
    ),
})

function isOrigin(url: string): boolean {
  if (!isHttpUrl(url)) return false
  const { username, password, pathname, search, hash } = new URL(url)
  return [username, password, search, hash].every((part) => part === '') && pathname === '/'
}
