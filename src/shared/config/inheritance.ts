/** Fills in what a server takes from `core` and an adapter from its server, and shapes the result for the program. */

import { join } from 'node:path'

import { camelize, type Camelized } from './camel.ts'
import type { AdapterConfig, Config, ServerConfig } from './config.ts'
import type { ConfigDocument } from './schema/document.ts'
import { decoded } from './secrets.ts'

type ServerDocument = ConfigDocument['servers'][number]
type AdapterDocument = ServerDocument['adapters'][number]

/** `tool_call_timeout_seconds` and `allow_raw_output` with nothing left to inherit. */
interface CallSettings {
  readonly tool_call_timeout_seconds: number | null
  readonly allow_raw_output: boolean
}

/** The configuration file with every inherited and derived value written out; loads to the same configuration. */
export type EffectiveDocument = ReturnType<typeof resolveDocument>

/** Resolves inheritance and derived defaults of a valid file. */
export function resolveDocument(document: ConfigDocument) {
  const { core, state_persistence: state, storage, telemetry, uploads } = document
  const defaults: CallSettings = {
    tool_call_timeout_seconds: core.defaults.tool_call_timeout_seconds,
    allow_raw_output: core.defaults.allow_raw_output ?? false,
  }
  return {
    ...document,
    core: { ...core, defaults },
    state_persistence: {
      ...state,
      disk: {
        ...state.disk,
        local_path: state.disk.local_path ?? join(storage.root, 'state', 'adapter_state.sqlite3'),
      },
      redis: { ...state.redis, tls: state.redis.tls || state.redis.tls_insecure },
    },
    storage: { ...storage, lock_mode: resolveLockMode(storage.lock_mode, state.type) },
    telemetry: { ...telemetry, ...resolveEndpoints(telemetry) },
    servers: document.servers.map((server) =>
      resolveServer(server, { ...core, defaults }, uploads.uri_scheme),
    ),
  }
}

/** The effective file as the program reads it: camelCase, call settings directly on servers and adapters. */
export function toConfig(document: EffectiveDocument): Config {
  const { servers, ...sections } = camelize(document)
  return {
    ...sections,
    servers: servers.map(toServer),
  }
}

function toServer(document: Camelized<EffectiveDocument>['servers'][number]): ServerConfig {
  const { toolDefaults, adapters, ...server } = document
  return {
    ...server,
    ...toolDefaults,
    upstream: withCredentialsOfUrl(server.upstream),
    adapters: adapters.map(toAdapter),
  }
}

/** What stands before the @ of an upstream's URL is sent as HTTP Basic authentication (RFC 7617), unless a static header says otherwise. */
function withCredentialsOfUrl(upstream: ServerConfig['upstream']): ServerConfig['upstream'] {
  if (upstream.url === null) return upstream
  const { username, password } = new URL(upstream.url)
  const isGiven = Object.keys(upstream.staticHeaders).some(
    (name) => name.toLowerCase() === 'authorization',
  )
  if (isGiven || (username === '' && password === '')) return upstream
  const credentials = `${decoded(username)}:${decoded(password)}`
  const authorization = `Basic ${Buffer.from(credentials, 'utf8').toString('base64')}`
  return { ...upstream, staticHeaders: { ...upstream.staticHeaders, authorization } }
}

function toAdapter(
  document: Camelized<EffectiveDocument>['servers'][number]['adapters'][number],
): AdapterConfig {
  const { overrides, ...adapter } = document
  return { ...adapter, ...overrides }
}

function resolveLockMode(
  mode: ConfigDocument['storage']['lock_mode'],
  stateType: ConfigDocument['state_persistence']['type'],
) {
  if (mode !== 'auto') return mode
  return stateType === 'redis' ? 'redis' : 'file'
}

function resolveEndpoints(telemetry: ConfigDocument['telemetry']) {
  const isHttp = telemetry.transport === 'http'
  const standard = isHttp ? 'http://localhost:4318/v1/metrics' : 'http://localhost:4317'
  const logs = isHttp ? 'http://localhost:4318/v1/logs' : null
  return {
    endpoint: telemetry.endpoint ?? standard,
    logs_endpoint: telemetry.logs_endpoint ?? logs,
  }
}

function resolveServer(
  server: ServerDocument,
  core: Omit<ConfigDocument['core'], 'defaults'> & { defaults: CallSettings },
  uploadScheme: string,
) {
  const toolDefaults = inherit(server.tool_defaults, core.defaults)
  return {
    ...server,
    upstream_ping: inherit(server.upstream_ping, core.upstream_ping),
    tool_defaults: toolDefaults,
    code_mode_enabled: server.code_mode_enabled ?? core.code_mode_enabled,
    shorten_descriptions: server.shorten_descriptions ?? core.shorten_descriptions,
    short_description_max_tokens:
      server.short_description_max_tokens ?? core.short_description_max_tokens,
    tool_description_policy: inherit(server.tool_description_policy, core.tool_description_policy),
    tool_metadata_sanitization: inherit(
      server.tool_metadata_sanitization,
      core.tool_metadata_sanitization,
    ),
    tool_definition_pinning: inherit(server.tool_definition_pinning, core.tool_definition_pinning),
    adapters: server.adapters.map((adapter) => resolveAdapter(adapter, toolDefaults, uploadScheme)),
  }
}

function resolveAdapter(adapter: AdapterDocument, defaults: CallSettings, uploadScheme: string) {
  const overrides = inherit(adapter.overrides, defaults)
  if (adapter.type === 'upload_consumer') {
    return { ...adapter, uri_scheme: adapter.uri_scheme ?? uploadScheme, overrides }
  }
  const { include_raw_output: olderName, ...producer } = adapter
  const rawOutput = producer.allow_raw_output ?? olderName ?? overrides.allow_raw_output
  return {
    ...producer,
    allow_raw_output: rawOutput,
    overrides: { ...overrides, allow_raw_output: rawOutput },
  }
}

/** Per key: the own value, or where that is null the inherited one. */
function inherit<Inherited extends object>(
  own: { readonly [Key in keyof Inherited]: Inherited[Key] | null },
  inherited: Inherited,
): Inherited {
  const result = { ...inherited }
  for (const key in inherited) result[key] = own[key] ?? inherited[key]
  return result
}
