/** Rules that concern more than one field, checked once every field is valid by itself. */

import { isDeepStrictEqual } from 'node:util'

import type { ConfigDocument } from './schema/document.ts'
import { upstreamSchema } from './schema/servers.ts'
import type { RuleViolation } from './rule-violation.ts'
import { checkUpstreamTls } from './upstream-rules.ts'

/** Paths that the adapter answers itself; the upload path is another. */
export const RESERVED_PATHS = [
  '/healthz',
  '/livez',
  '/readyz',
  '/metrics',
  '/artifacts',
  '/.well-known',
] as const

/** Lists every rule that the file breaks. */
export function checkRules(document: ConfigDocument): RuleViolation[] {
  return [
    ...checkAuth(document),
    ...checkCors(document),
    ...checkOwnTls(document),
    ...checkState(document),
    ...checkStorage(document),
    ...checkServerIds(document),
    ...checkTransports(document),
    ...checkForwardedHeaders(document),
    ...checkUpstreamTls(document),
    ...checkPaths(document),
    ...checkAdapters(document),
  ]
}

function* checkAuth({ core }: ConfigDocument): Generator<RuleViolation> {
  const { auth } = core
  const isBlank = auth.token?.trim() === ''
  const hasOther = auth.tokens.length > 0 || auth.jwt.issuer !== null
  if (auth.enabled && (isBlank || (auth.token === null && !hasOther))) {
    yield {
      path: ['core', 'auth', 'token'],
      message:
        'must be set while core.auth.enabled is true and there are neither core.auth.tokens nor core.auth.jwt; give it a long random secret',
    }
  }
  yield* checkJwt(core)
  const nameOf = new Map(auth.token === null ? [] : [[auth.token, 'default']])
  for (const [index, { name, token }] of auth.tokens.entries()) {
    const other = nameOf.get(token)
    if (other !== undefined && other !== name) {
      yield {
        path: ['core', 'auth', 'tokens', index, 'token'],
        message: `is the token of ${other} too: one token can't stand for two principals`,
      }
    }
    nameOf.set(token, name)
  }
}

function* checkJwt({
  auth: { jwt },
  public_base_url: baseUrl,
}: ConfigDocument['core']): Generator<RuleViolation> {
  const path = ['core', 'auth', 'jwt']
  if (jwt.issuer !== null && jwt.jwks_uri === null) {
    yield { path: [...path, 'jwks_uri'], message: 'must be set while core.auth.jwt.issuer is' }
  }
  if (jwt.issuer === null && jwt.jwks_uri !== null) {
    yield { path: [...path, 'issuer'], message: 'must be set while core.auth.jwt.jwks_uri is' }
  }
  if (jwt.issuer !== null && jwt.audience.length === 0 && baseUrl === null) {
    yield {
      path: [...path, 'audience'],
      message:
        'must be set while core.public_base_url is not: a token must say that it is meant for this adapter',
    }
  }
}

function* checkCors({ core: { cors } }: ConfigDocument): Generator<RuleViolation> {
  if (cors.enabled && cors.allow_credentials && cors.allowed_origins.includes('*')) {
    yield {
      path: ['core', 'cors', 'allowed_origins'],
      message:
        'must name the origins while allow_credentials is true: browsers refuse `*` with credentials, and any page could act for its visitor',
    }
  }
}

function* checkOwnTls({ core: { tls } }: ConfigDocument): Generator<RuleViolation> {
  if ((tls.cert_file === null) !== (tls.key_file === null)) {
    const missing = tls.cert_file === null ? 'cert_file' : 'key_file'
    yield {
      path: ['core', 'tls', missing],
      message: 'must be set too: a certificate needs its key',
    }
  }
  if (tls.passphrase !== null && tls.key_file === null) {
    yield {
      path: ['core', 'tls', 'passphrase'],
      message: 'is for core.tls.key_file, which is not set',
    }
  }
}

function* checkState(document: ConfigDocument): Generator<RuleViolation> {
  const { type, redis, reconciliation } = document.state_persistence
  if (type === 'redis') yield* checkRedis(redis)
  const legacyId = reconciliation.legacy_server_id
  if (legacyId !== null && !document.servers.some(({ id }) => id === legacyId)) {
    yield {
      path: ['state_persistence', 'reconciliation', 'legacy_server_id'],
      message: `must be the id of a configured server: ${document.servers.map(({ id }) => id).join(', ')}`,
    }
  }
}

function inRedis(...path: readonly string[]): readonly string[] {
  return ['state_persistence', 'redis', ...path]
}

type Redis = ConfigDocument['state_persistence']['redis']

function* checkRedis(redis: Redis): Generator<RuleViolation> {
  const { sentinel, cluster } = redis
  const hasSentinels = sentinel.nodes.length > 0
  const isCluster = cluster.nodes.length > 0
  if (hasSentinels && isCluster) {
    yield {
      path: inRedis('cluster', 'nodes'),
      message: 'excludes redis.sentinel: a Cluster does its own fail-over; keep one of the two',
    }
  }
  if (hasSentinels && sentinel.master_name === null) {
    yield {
      path: inRedis('sentinel', 'master_name'),
      message: 'must be set while redis.sentinel.nodes are: it is the name in `sentinel monitor`',
    }
  }
  if (!hasSentinels && sentinel.master_name !== null) {
    yield {
      path: inRedis('sentinel', 'nodes'),
      message: 'must list at least one Sentinel while redis.sentinel.master_name is set',
    }
  } else if (!hasSentinels && !isCluster && redis.host === null) {
    yield { path: inRedis('host'), message: 'must be set while state_persistence.type is redis' }
  }
  if (redis.host !== null && (hasSentinels || isCluster)) {
    const other = hasSentinels ? 'sentinel' : 'cluster'
    yield {
      path: inRedis('host'),
      message: `would not be used: redis.${other} says where Redis is; remove one of the two`,
    }
  }
  if (isCluster && redis.db !== 0) {
    yield {
      path: inRedis('db'),
      message: 'must be 0 with redis.cluster: a Cluster has no other database',
    }
  }
  yield* checkTls(redis)
}

function* checkTls({ tls, tls_insecure: isInsecure }: Redis): Generator<RuleViolation> {
  if (typeof tls === 'boolean') return
  if ((tls.cert_file === null) !== (tls.key_file === null)) {
    const missing = tls.cert_file === null ? 'cert_file' : 'key_file'
    yield { path: inRedis('tls', missing), message: 'must be set too: a certificate needs its key' }
  }
  if (isInsecure && (tls.ca_file !== null || tls.server_name !== null)) {
    yield {
      path: inRedis('tls_insecure'),
      message:
        'leaves the certificate unchecked, while redis.tls says how to check it; remove one of the two',
    }
  }
}

function* checkStorage(document: ConfigDocument): Generator<RuleViolation> {
  const { storage, state_persistence: state } = document
  if (storage.lock_mode === 'redis' && state.type !== 'redis') {
    yield {
      path: ['storage', 'lock_mode'],
      message: `can be redis only while state_persistence.type is redis (it is ${state.type}); use auto or file`,
    }
  }
  if (
    storage.artifact_locator_policy === 'allow_configured_roots' &&
    storage.artifact_locator_allowed_roots.length === 0
  ) {
    yield {
      path: ['storage', 'artifact_locator_allowed_roots'],
      message:
        'must name at least one directory while artifact_locator_policy is allow_configured_roots',
    }
  }
}

function* checkServerIds({ servers }: ConfigDocument): Generator<RuleViolation> {
  for (const [index, { id }] of servers.entries()) {
    const first = servers.findIndex((server) => server.id === id)
    if (first < index) {
      yield {
        path: ['servers', index, 'id'],
        message: `must be unique, but servers[${first}] has the id ${id} too`,
      }
    }
  }
}

const UPSTREAM_DEFAULTS = upstreamSchema.parse({})

/** Fields of one kind of transport, which the other would ignore. */
const FIELDS_OF: Readonly<Record<'http' | 'stdio', readonly (keyof typeof UPSTREAM_DEFAULTS)[]>> = {
  http: [
    'url',
    'insecure_tls',
    'tls',
    'proxy_url',
    'connect_timeout_seconds',
    'max_connections',
    'static_headers',
  ],
  stdio: [
    'command',
    'args',
    'env',
    'inherit_env',
    'cwd',
    'process',
    'max_processes',
    'max_message_bytes',
    'max_memory',
    'start_timeout_seconds',
    'stop_grace_seconds',
    'max_restarts',
    'restart_window_seconds',
  ],
}

function* checkTransports({ servers }: ConfigDocument): Generator<RuleViolation> {
  for (const [index, { upstream }] of servers.entries()) {
    const at = ['servers', index, 'upstream']
    const { transport } = upstream
    const isStdio = transport === 'stdio'
    const needed = isStdio ? 'command' : 'url'
    if (upstream[needed] === null) {
      yield {
        path: [...at, needed],
        message: isStdio
          ? 'must be set while transport is stdio: it is the program to run'
          : `must be set while transport is ${transport}: it is where the server listens`,
      }
    }
    for (const name of FIELDS_OF[isStdio ? 'http' : 'stdio']) {
      if (!isDeepStrictEqual(upstream[name], UPSTREAM_DEFAULTS[name])) {
        yield {
          path: [...at, name],
          message: `has no meaning while transport is ${transport}; remove it, or choose the transport that it is for`,
        }
      }
    }
    if (isStdio && upstream.client_headers.passthrough.length > 0) {
      yield {
        path: [...at, 'client_headers', 'passthrough'],
        message: 'has no meaning while transport is stdio: a process gets no headers',
      }
    }
  }
}

/** Headers that belong to one connection (RFC 9110 §7.6.1), or that the adapter writes itself. */
const OWN_TO_A_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'http2-settings',
  'keep-alive',
  'mcp-session-id',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

function* checkForwardedHeaders({ core, servers }: ConfigDocument): Generator<RuleViolation> {
  const credentialName = core.auth.header_name.toLowerCase()
  for (const [index, { upstream }] of servers.entries()) {
    const at = ['servers', index, 'upstream']
    for (const [place, name] of upstream.client_headers.passthrough.entries()) {
      const lower = name.toLowerCase()
      const reason =
        lower === credentialName
          ? "carries the adapter's own token (core.auth.header_name), which no upstream may see"
          : lower === 'cookie' || lower === 'host' || OWN_TO_A_CONNECTION.has(lower)
            ? 'belongs to the connection between client and adapter'
            : undefined
      if (reason !== undefined) {
        yield {
          path: [...at, 'client_headers', 'passthrough', place],
          message: `can not be ${name}: it ${reason}`,
        }
      }
    }
    for (const name of Object.keys(upstream.static_headers)) {
      if (OWN_TO_A_CONNECTION.has(name.toLowerCase())) {
        yield {
          path: [...at, 'static_headers', name],
          message: 'can not be set: it belongs to the connection, and the adapter writes it itself',
        }
      }
    }
  }
}

function* checkPaths({ core, servers }: ConfigDocument): Generator<RuleViolation> {
  const taken: { path: string; owner: string }[] = RESERVED_PATHS.map((path) => {
    return { path, owner: "the adapter's own path" }
  })
  const claims = [
    { at: ['core', 'upload_path'], path: core.upload_path, owner: 'core.upload_path' },
    ...servers.map(({ mount_path: path }, index) => {
      return { at: ['servers', index, 'mount_path'], path, owner: `servers[${index}].mount_path` }
    }),
  ]
  for (const { at, path, owner } of claims) {
    const other = taken.find((entry) => overlaps(entry.path, path))
    if (other !== undefined) {
      yield {
        path: at,
        message: `${path} collides with ${other.owner} ${other.path}: neither path may be equal to or lie below the other`,
      }
    }
    taken.push({ path, owner })
  }
}

function overlaps(one: string, other: string): boolean {
  return `${one}/`.startsWith(`${other}/`) || `${other}/`.startsWith(`${one}/`)
}

function* checkAdapters({ servers, uploads }: ConfigDocument): Generator<RuleViolation> {
  for (const [serverIndex, { adapters }] of servers.entries()) {
    const firstOf = new Map<string, number>()
    for (const [index, adapter] of adapters.entries()) {
      const path = ['servers', serverIndex, 'adapters', index]
      for (const [toolIndex, tool] of adapter.tools.entries()) {
        const first = firstOf.get(`${adapter.type} ${tool}`)
        if (first !== undefined && first !== index) {
          yield {
            path: [...path, 'tools', toolIndex],
            message: `${tool} is already handled by adapters[${first}], which is of the same type; name a tool in one of them`,
          }
        }
        firstOf.set(`${adapter.type} ${tool}`, first ?? index)
      }
      yield* adapter.type === 'upload_consumer'
        ? checkConsumer(adapter, path, uploads.uri_scheme)
        : checkProducer(adapter, path)
    }
  }
}

type Adapter = ConfigDocument['servers'][number]['adapters'][number]
type Consumer = Extract<Adapter, { type: 'upload_consumer' }>
type Producer = Extract<Adapter, { type: 'artifact_producer' }>

function* checkConsumer(
  { uri_scheme: scheme }: Consumer,
  path: readonly PropertyKey[],
  uploadScheme: string,
): Generator<RuleViolation> {
  if (scheme !== null && scheme !== uploadScheme) {
    yield {
      path: [...path, 'uri_scheme'],
      message: `is ${scheme}, but handles are given out with uploads.uri_scheme ${uploadScheme}, so none would ever be accepted; leave this field out`,
    }
  }
}

function* checkProducer(adapter: Producer, path: readonly PropertyKey[]): Generator<RuleViolation> {
  const { output_locator: locator, output_path_argument: argument } = adapter
  const hasKey = locator.output_path_key !== null && locator.output_path_key.trim() !== ''
  const hasArgument = argument !== null && argument.trim() !== ''
  if (locator.mode === 'structured' && !hasArgument && !hasKey) {
    yield {
      path: [...path, 'output_locator', 'output_path_key'],
      message:
        'must be set while output_locator.mode is structured and there is no output_path_argument',
    }
  }
  if (adapter.allow_raw_output !== null && adapter.include_raw_output !== null) {
    yield {
      path: [...path, 'include_raw_output'],
      message: 'is the older name of allow_raw_output, which is given too; remove this one',
    }
  }
}
