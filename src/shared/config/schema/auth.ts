/** `core.auth`: who may talk to the adapter. */

import { z } from 'zod'

import {
  bool,
  DEFAULT_AUTH_HEADER_NAME,
  headerName,
  httpUrl,
  integer,
  keyRing,
  positive,
  section,
  text,
} from './fields.ts'

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

/** `core.auth.jwt`. */
const jwtSchema = section({
  issuer: httpUrl()
    .nullable()
    .default(null)
    .describe(
      'The authorization server whose JWT access tokens are accepted, exactly as it stands in their `iss`. Null: none are.',
    ),
  audience: z
    .preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(text()))
    .default([])
    .describe(
      'What `aud` of a token must contain: one text or a list of which one is enough. Empty: the URL of the server that is asked, which is `core.public_base_url` and its `mount_path`, or `core.public_base_url` itself for all servers.',
    ),
  jwks_uri: httpUrl()
    .refine((url) => !/^[^/]*\/\/[^/?#]*@/.test(url), 'must not hold a user or password')
    .nullable()
    .default(null)
    .describe('Where the issuer publishes the public keys of its tokens (a JWK set).'),
  required_scopes: z
    .array(
      z
        .string()
        .regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/, 'must be a scope: visible ASCII without blanks'),
    )
    .default([])
    .describe('Scopes that a token must have, all of them (`scope` or `scp`).'),
  clock_tolerance_seconds: integer({ min: 0, max: 300 })
    .default(30)
    .describe('Seconds by which the clocks of issuer and adapter may differ.'),
  jwks_cache_seconds: integer({ min: 1, max: 86_400 })
    .default(600)
    .describe('Seconds after which the keys are read again.'),
  jwks_cooldown_seconds: integer({ min: 1, max: 3_600 })
    .default(30)
    .describe('Least seconds between two readings that tokens with an unknown key cause.'),
  jwks_timeout_seconds: integer({ min: 1, max: 8 })
    .default(5)
    .describe('Seconds until a reading of the keys is given up.'),
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
  jwt: jwtSchema
    .prefault({})
    .describe(
      'JWT access tokens of an authorization server: the adapter is an OAuth 2.1 resource server then.',
    ),
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
