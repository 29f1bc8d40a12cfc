/** `servers[]`: the upstream MCP servers and where clients find them. */

import { z } from 'zod'

import { adapterSchema } from './adapters.ts'
import {
  bool,
  choice,
  headerMap,
  headerName,
  httpPath,
  httpUrl,
  integer,
  pattern,
  positive,
  section,
  text,
} from './fields.ts'
import { stdioFields } from './stdio.ts'
import {
  serverToolDefinitionPinningSchema,
  serverToolDescriptionPolicySchema,
  serverToolMetadataSanitizationSchema,
  serverUpstreamPingSchema,
} from './tool-controls.ts'
import { proxyUrl, upstreamTlsSchema } from './upstream-reach.ts'

/** Server ids stand in paths of URLs and files. */
const SERVER_ID = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$/

const clientHeadersSchema = section({
  required: z
    .array(headerName())
    .default([])
    .describe('Headers every MCP request of a client must have; one without is answered 400.'),
  passthrough: z
    .array(headerName())
    .default([])
    .describe(
      'Headers of the client that are forwarded upstream, besides those of MCP and of W3C trace context. No others are, and never the token of the adapter, cookies, or what belongs to one connection.',
    ),
})

/** `servers[].upstream`. Every field has a default: which are required depends on `transport`. */
export const upstreamSchema = section({
  transport: choice(['streamable_http', 'sse', 'stdio'])
    .default('streamable_http')
    .describe(
      'MCP transport of the upstream. `sse` is the older HTTP+SSE transport of revision 2024-11-05: `url` is then where its event stream is, `max_connections` counts what messages are sent over (each session has a stream besides), and a session lives as long as its stream. With `stdio` the adapter runs the server itself, by `command`; the fields of HTTP have no meaning then.',
    ),
  url: httpUrl()
    .nullable()
    .default(null)
    .describe(
      'Endpoint of the upstream; required but for `stdio`. `user:password@` in it is sent as HTTP Basic authentication, unless `static_headers` has `Authorization`.',
    ),
  insecure_tls: bool().default(false).describe('Do not check the certificate of the upstream.'),
  tls: upstreamTlsSchema.prefault({}).describe('TLS towards the upstream.'),
  proxy_url: proxyUrl(),
  connect_timeout_seconds: positive()
    .default(10)
    .describe('Seconds that connecting to the upstream may take.'),
  initialize_timeout_seconds: positive()
    .default(60)
    .describe(
      'Seconds that the upstream may take to answer the `initialize` of a client, connecting included.',
    ),
  max_connections: positive()
    .nullable()
    .default(null)
    .describe('Connections to this upstream at a time, per worker; null for no limit.'),
  stream_linger_seconds: integer({ min: 0 })
    .default(30)
    .describe(
      'Seconds that the standalone stream of the upstream stays open after the stream of its client ended or its replica was lost; meanwhile pings are answered and messages kept for the client. 0 closes it at once.',
    ),
  hold_stream: bool()
    .default(false)
    .describe(
      'Open the standalone stream of the upstream when a session is initialised, and keep it while the session lives, whether or not the client opens one. For upstreams that ask things on it, such as Playwright for roots.',
    ),
  workspace_root: text()
    .nullable()
    .default(null)
    .describe(
      'The directory, as the adapter sees it, that relative paths in results of this upstream start from; null refuses relative paths.',
    ),
  static_headers: headerMap()
    .default({})
    .describe('Headers sent with every request to the upstream. The values are secret.'),
  client_headers: clientHeadersSchema.prefault({}).describe('Headers of clients.'),
  metadata_cache_scope: choice(['auto', 'principal', 'off'])
    .default('auto')
    .describe(
      'Who shares listings that are reused (`core.upstream_metadata_cache_ttl_seconds`). `auto`: requests of one session where the upstream keeps sessions, as its lists may differ from one to the next, and only while no other replica could serve that session (not with state in Redis); else the sessions of one principal. `principal`: the sessions of one principal, for upstreams whose lists are the same in each session; a change that the upstream tells of on one replica reaches the others when the time is over. `off`: nobody. Only clients that ask alike share: the same revision, capabilities and forwarded headers.',
    ),
  ...stdioFields,
})

const toolDefaultsSchema = section({
  tool_call_timeout_seconds: positive()
    .nullable()
    .default(null)
    .describe(
      'Seconds that a tool call, or another request that is answered at once, may go without progress; null inherits from `core.defaults`.',
    ),
  allow_raw_output: bool()
    .nullable()
    .default(null)
    .describe('Append the bytes of an artifact to the result as well; null inherits.'),
})

/** One entry of `servers`. */
export const serverSchema = section({
  id: z
    .string()
    .trim()
    .regex(
      SERVER_ID,
      'must be 1 to 64 letters, digits or . _ - (it stands in URLs and file paths), and not . or ..',
    )
    .describe('Name of the server in URLs, file paths, metrics and logs; unique.'),
  mount_path: httpPath().describe('Path at which clients reach this server; unique.'),
  upstream: upstreamSchema.describe('The upstream MCP server.'),
  upstream_ping: serverUpstreamPingSchema.prefault({}).describe('Health probes.'),
  tool_defaults: toolDefaultsSchema.prefault({}).describe('Defaults of tool calls.'),
  code_mode_enabled: bool()
    .nullable()
    .default(null)
    .describe('As `core.code_mode_enabled`; null inherits.'),
  shorten_descriptions: bool()
    .nullable()
    .default(null)
    .describe('As `core.shorten_descriptions`; null inherits.'),
  short_description_max_tokens: positive()
    .nullable()
    .default(null)
    .describe('As `core.short_description_max_tokens`; null inherits.'),
  tool_description_policy: serverToolDescriptionPolicySchema
    .prefault({})
    .describe('Length of descriptions.'),
  tool_metadata_sanitization: serverToolMetadataSanitizationSchema
    .prefault({})
    .describe('Cleaning of text that the upstream sends.'),
  tool_definition_pinning: serverToolDefinitionPinningSchema
    .prefault({})
    .describe('Watching tools for changes during a session.'),
  disabled_tools: z
    .array(pattern())
    .default([])
    .describe(
      'Tools to hide and refuse: exact names or regular expressions that match whole names. Patterns run in linear time (RE2), so without look-around and back-references.',
    ),
  adapters: z
    .array(adapterSchema)
    .default([])
    .describe('Tools that take or make files; `type` says which.'),
})
