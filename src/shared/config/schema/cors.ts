/** `core.cors`: what browsers may do for pages of other origins. */

import { z } from 'zod'

import { bool, headerName, integer, origin, section } from './fields.ts'

/** `core.cors`. */
export const corsSchema = section({
  enabled: bool().default(false).describe('Answer browsers on other origins.'),
  allowed_origins: z
    .array(origin())
    .default([])
    .describe(
      'Origins a browser may call from, such as `https://app.example.com`; `*` for any. They pass `core.allowed_origins` as well.',
    ),
  allowed_methods: z
    .array(headerName())
    .default(['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS'])
    .describe('HTTP methods a browser may use; `*` for any.'),
  allowed_headers: z
    .array(headerName())
    .default(['*'])
    .describe('Request headers a browser may send; `*` for any, `Authorization` included.'),
  exposed_headers: z
    .array(headerName())
    .default([])
    .describe(
      'Further response headers that a page may read, besides those that MCP clients and downloads need.',
    ),
  allow_credentials: bool()
    .default(false)
    .describe('Allow browsers to send cookies and client certificates; needs origins by name.'),
  max_age_seconds: integer({ min: 0, max: 86_400 })
    .default(600)
    .describe('Seconds for which a browser may remember what it was allowed; 0 asks every time.'),
})
