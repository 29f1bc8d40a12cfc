/** `core.auth` and `core.cors`: who may talk to the adapter. */

import { z } from 'zod'

import { bool, DEFAULT_AUTH_HEADER_NAME, headerName, positive, section, text } from './fields.ts'

/** One entry of `core.auth.tokens`. */
const tokenSchema = section({
  name: z
    .string()
    .regex(
      /^[A-Za-z0-9._-]{1,64}$/,
      'must be 1 to 64 letters, digits, dots, hyphens or underscores',
    )
    .describe('Names the principal. Appears in records and logs; not a secret.'),
  token: z
    .string()
    .refine((token) => token.trim() !== '', 'must not be blank; give it a long random secret')
    .describe('What the client sends. Secret.'),
})

/** `core.auth`. */
export const authSchema = section({
  enabled: bool()
    .default(false)
    .describe('Ask every MCP request, and every download without a signature, for a token.'),
  header_name: z
    .preprocess(
      (name) => (typeof name === 'string' && name.trim() === '' ? DEFAULT_AUTH_HEADER_NAME : name),
      headerName(),
    )
    .default(DEFAULT_AUTH_HEADER_NAME)
    .describe('The request header that carries the token; `Authorization: Bearer` does as well.'),
  token: z
    .string()
    .nullable()
    .default(null)
    .describe('A token that clients may send; its name is `default`. Secret.'),
  tokens: z
    .array(tokenSchema)
    .default([])
    .describe(
      'Further tokens. Each name is a principal: sessions belong to it. Entries of one name stand for the same principal, so a token is replaced by adding the new one, moving clients, and removing the old one.',
    ),
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
