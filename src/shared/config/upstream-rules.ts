/** Rules that concern more than one field of `servers[].upstream`. */

import { isDeepStrictEqual } from 'node:util'

import type { RuleViolation } from './rule-violation.ts'
import type { ConfigDocument } from './schema/document.ts'
import { upstreamSchema } from './schema/servers.ts'

/** Lists what is wrong with the upstreams taken together with the rest. */
export function checkUpstreams(document: ConfigDocument): RuleViolation[] {
  return [
    ...checkTransports(document),
    ...checkForwardedHeaders(document),
    ...checkUpstreamTls(document),
    ...checkSessionRoots(document),
  ]
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

function* checkUpstreamTls({ servers }: ConfigDocument): Generator<RuleViolation> {
  for (const [index, { upstream }] of servers.entries()) {
    const { tls, url, insecure_tls: isInsecure } = upstream
    const at = ['servers', index, 'upstream', 'tls']
    const fields = ['ca_file', 'cert_file', 'key_file', 'key_passphrase', 'server_name'] as const
    // An authority may be for the proxy alone.
    const idle = fields.find((field) => tls[field] !== null && field !== 'ca_file')
    if (idle !== undefined && /^http:/i.test(url ?? '')) {
      yield {
        path: [...at, idle],
        message: 'would not be used: the URL of this upstream begins with http://',
      }
    }
    if ((tls.cert_file === null) !== (tls.key_file === null)) {
      const missing = tls.cert_file === null ? 'cert_file' : 'key_file'
      yield { path: [...at, missing], message: 'must be set too: a certificate needs its key' }
    }
    if (tls.key_passphrase !== null && tls.key_file === null) {
      yield { path: [...at, 'key_passphrase'], message: 'is for key_file, which is not set' }
    }
    if (isInsecure && tls.ca_file !== null && upstream.proxy_url === null) {
      yield {
        path: ['servers', index, 'upstream', 'insecure_tls'],
        message:
          'leaves the certificate unchecked, while upstream.tls.ca_file says how to check it; remove one of the two',
      }
    }
  }
}

function* checkSessionRoots({ servers }: ConfigDocument): Generator<RuleViolation> {
  for (const [index, { upstream }] of servers.entries()) {
    const { enabled, sessions_path: path } = upstream.session_root
    const at = ['servers', index, 'upstream', 'session_root', 'sessions_path']
    if (path === null) continue
    if (!enabled) {
      yield { path: at, message: 'would not be used: set session_root.enabled, or remove it' }
    } else if (!path.startsWith('/')) {
      yield { path: at, message: `must be an absolute path, but it is ${path}` }
    }
  }
}
