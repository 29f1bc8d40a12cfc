/** `core.auth` and `core.cors`: who may talk to the adapter. */

import { z } from 'zod'

import { bool, DEFAULT_AUTH_HEADER_NAME, headerName, positive, section, text } from './fields.ts'

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
  signing_secret: z
    .string()
    .refine(
      (secret) => secret.trim() !== '',
      'must not be blank; leave it out to sign with the token',
    )
    .nullable()
    .default(null)
    .describe('The key that signs upload and download URLs; null signs with the token. Secret.'),
})

/** `core.cors`. */
export const corsSchema = section({
  enabled: bool().default(false).describe('Answer browsers on other origins.'),
  allowed_origins: z
    .array(text())
    .default([])
    .describe('Origins a browser may call from, such as `https://app.example.com`; `*` for any.'),
  allowed_methods: z
    .array(text())
    .default(['POST', 'GET', 'OPTIONS'])
    .describe('HTTP methods a browser may use.'),
  allowed_headers: z
    .array(text())
    .default(['*'])
    .describe('Request headers a browser may send; `*` for any.'),
  allow_credentials: bool().default(false).describe('Allow browsers to send credentials.'),
})
