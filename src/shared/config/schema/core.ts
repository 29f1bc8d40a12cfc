/** `core`: the listener, limits of the whole process, and the defaults that servers inherit. */

import { z } from 'zod'

import { authSchema } from './auth.ts'
import { codeModeSchema } from './code-mode.ts'
import { corsSchema } from './cors.ts'
import {
  bool,
  byteSize,
  choice,
  httpPath,
  integer,
  isHttpUrl,
  origin,
  positive,
  section,
  text,
} from './fields.ts'
import { legacySseSchema } from './legacy-sse.ts'
import { rateLimitSchema } from './rate-limit.ts'
import { tlsSchema } from './tls.ts'
import {
  toolDefinitionPinningSchema,
  toolDescriptionPolicySchema,
  toolMetadataSanitizationSchema,
  upstreamPingSchema,
} from './tool-controls.ts'

/** The log levels, from most to least talkative. */
export const LOG_LEVELS = ['debug', 'info', 'warning', 'error', 'critical'] as const

const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?$/

/** `core.defaults`. */
const defaultsSchema = section({
  tool_call_timeout_seconds: positive()
    .nullable()
    .default(60)
    .describe(
      'Seconds that a tool call, or another request that is answered at once (listings, reads, `ping`), may go without progress before it is cancelled and answered with an error; connecting is included, messages before the answer begin it anew, and it rests while the upstream waits for the client. Null for no limit.',
    ),
  allow_raw_output: bool()
    .nullable()
    .default(false)
    .describe('Append the bytes of an artifact to the tool result as well; null means false.'),
})

/** `core`. */
export const coreSchema = section({
  host: text().default('0.0.0.0').describe('Address to listen on.'),
  port: integer({ min: 1, max: 65535 }).default(8932).describe('Port to listen on.'),
  log_level: z
    .preprocess(
      (level) => (typeof level === 'string' ? level.trim().toLowerCase() : level),
      choice(LOG_LEVELS),
    )
    .default('warning')
    .describe('Least severe level that is logged.'),
  workers: positive()
    .nullable()
    .default(null)
    .describe('Worker threads; null for one fewer than the processors available, at least 1.'),
  max_message_bytes: byteSize({ min: 1 })
    .default(16 * 1024 ** 2)
    .describe('Largest JSON-RPC message accepted from a client.'),
  max_response_message_bytes: byteSize({ min: 1 })
    .default(64 * 1024 ** 2)
    .describe(
      'Largest upstream answer that the adapter parses (of a wrapped tool, a listing or initialize). Other answers are streamed through and have no limit.',
    ),
  pre_drain_seconds: integer({ min: 0 })
    .nullable()
    .default(null)
    .describe(
      'Seconds for which the adapter goes on taking connections after a stop signal, while `/readyz` already answers 503, so that load balancers send nobody here any more; null for 5 with state in Redis and else 0.',
    ),
  shutdown_timeout_seconds: positive()
    .default(10)
    .describe(
      'Seconds that requests in flight get to finish when no more connections are taken. `MCP_ADAPTER_SHUTDOWN_TIMEOUT_SECONDS` overrides it.',
    ),
  max_start_wait_seconds: integer({ min: 0 })
    .default(60)
    .describe('Seconds to wait at start for upstreams to answer; 0 does not wait.'),
  cleanup_interval_seconds: positive()
    .nullable()
    .default(60)
    .describe('Seconds between two clean-ups of expired data; null disables them.'),
  public_base_url: z
    .string()
    .trim()
    .refine((url) => url === '' || isBaseUrl(url), {
      error:
        'must be an absolute http:// or https:// URL without user, query or fragment, such as https://mcp.example.com',
    })
    .transform((url) => (url === '' ? null : url.replace(/\/+$/, '')))
    .nullable()
    .default(null)
    .describe(
      'The address under which clients reach the adapter; upload and download URLs begin with it. Null takes the address of the request.',
    ),
  allowed_hosts: z
    .array(
      z
        .string()
        .trim()
        .toLowerCase()
        .regex(HOST, 'must be a host name or address with an optional port, without a scheme'),
    )
    .default([])
    .describe('Further names that the Host header of a request may have.'),
  allowed_origins: z
    .array(origin())
    .default([])
    .describe('Origins from which a browser may send MCP requests.'),
  allow_artifacts_download: bool()
    .default(false)
    .describe('Serve artifacts over HTTP and add their download URLs to tool results.'),
  upload_path: httpPath()
    .default('/upload')
    .describe('Path of the upload endpoint; the server id follows it.'),
  code_mode_enabled: bool()
    .default(false)
    .describe(
      'Show tools that search the tools of the upstream and run scripts which call them, in place of those tools.',
    ),
  code_mode: codeModeSchema.prefault({}).describe('Limits of scripts in code mode.'),
  shorten_descriptions: bool()
    .default(false)
    .describe('Shorten the descriptions of tools that take uploads to a line of purpose.'),
  short_description_max_tokens: positive().default(16).describe('Most words of that line.'),
  upstream_metadata_cache_ttl_seconds: integer({ min: 0 })
    .default(300)
    .describe('Seconds for which listings of an upstream are reused; 0 disables it.'),
  tool_description_policy: toolDescriptionPolicySchema
    .prefault({})
    .describe('Length of descriptions.'),
  tool_metadata_sanitization: toolMetadataSanitizationSchema
    .prefault({})
    .describe('Cleaning of text that upstreams send.'),
  tool_definition_pinning: toolDefinitionPinningSchema
    .prefault({})
    .describe('Watching tools for changes during a session.'),
  upstream_ping: upstreamPingSchema.prefault({}).describe('Health probes of upstreams.'),
  auth: authSchema.prefault({}).describe('Authentication of clients.'),
  cors: corsSchema.prefault({}).describe('Cross-origin requests of browsers.'),
  legacy_sse: legacySseSchema.prefault({}).describe('Clients of the older HTTP+SSE transport.'),
  rate_limit: rateLimitSchema.prefault({}).describe('How many requests each principal may make.'),
  tls: tlsSchema.prefault({}).describe('TLS on the listener.'),
  defaults: defaultsSchema.prefault({}).describe('Defaults of tool calls on every server.'),
})

function isBaseUrl(url: string): boolean {
  if (!isHttpUrl(url) || url.includes('?') || url.includes('#')) return false
  const { username, password } = new URL(url)
  return username === '' && password === ''
}
