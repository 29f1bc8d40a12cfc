/** `core.auth`: who may talk to the adapter. */

import { z } from 'zod'

import { bool, DEFAULT_AUTH_HEADER_NAME, headerName, keyRing, positive, section } from './fields.ts'

/** `core.auth`. */
export const authSchema = section({
  enabled: bool().default(false).describe('Ask every MCP request for the token.'),
  header_name: z
    .preprocess(
      (name) => (typeof name === 'string' && name.trim() === '' ? DEFAULT_AUTH_HEADER_NAME : name),
      headerName(),
    )
    .default(DEFAULT_AUTH_HEADER_NAME)
    .describe('The request header that carries the token.'),
  token: z
    .string()
    .nullable()
    .default(null)
    .describe('The token clients must send. Required when `enabled` is true. Secret.'),
  signed_upload_ttl_seconds: positive()
    .default(120)
    .describe('Seconds for which a signed upload URL can be used.'),
  signing_secret: keyRing()
    .nullable()
    .default(null)
    .describe(
      'The key that signs upload and download URLs, or a list of keys: the first signs, all are accepted, so that a key can be replaced while URLs are out; null signs with the token. Secret.',
    ),
})
