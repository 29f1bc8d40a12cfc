/** From `state_persistence.redis` to what connections are opened with; reads the files that it names. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

import type { Config } from '../../config/config.ts'
import { ConfigError } from '../../config/problems.ts'
import type { RedisConnectionOptions, RedisNode, RedisTarget, RedisTls } from './connection.ts'

type RedisConfig = Config['statePersistence']['redis']
type TlsSection = Exclude<RedisConfig['tls'], boolean>

const SECTION = 'state_persistence.redis'
const NO_FILES: TlsSection = { caFile: null, certFile: null, keyFile: null, serverName: null }

/** Throws `ConfigError`, which names field and file, when one of the files can't be read. */
export function redisConnectionOptions(redis: RedisConfig): RedisConnectionOptions {
  return {
    target: targetOf(redis),
    db: redis.db,
    username: redis.username,
    password: redis.password,
    tls: tlsOf(redis),
    commandTimeoutMs: redis.commandTimeoutSeconds * 1_000,
    connectTimeoutMs: redis.connectTimeoutSeconds * 1_000,
  }
}

function targetOf({ host, port, sentinel, cluster }: RedisConfig): RedisTarget {
  if (sentinel.nodes.length > 0) {
    return {
      kind: 'sentinel',
      masterName: sentinel.masterName ?? '',
      nodes: sentinel.nodes.map(toNode),
      username: sentinel.username,
      password: sentinel.password,
    }
  }
  if (cluster.nodes.length > 0) return { kind: 'cluster', nodes: cluster.nodes.map(toNode) }
  return { kind: 'single', node: { host: host ?? '', port } }
}

/** `host:port`, checked by the schema; brackets around an IPv6 address are not part of it. */
function toNode(address: string): RedisNode {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  return { host, port: Number(address.slice(colon + 1)) }
}

function tlsOf({ tls, tlsInsecure }: RedisConfig): RedisTls | null {
  if (tls === false && !tlsInsecure) return null
  const section = typeof tls === 'boolean' ? NO_FILES : tls
  const ca = readPem('ca_file', section.caFile)
  const cert = readPem('cert_file', section.certFile)
  const key = readPem('key_file', section.keyFile)
  check('ca_file', section.caFile, { ca })
  check('key_file', section.keyFile, { cert, key })
  return { ca, cert, key, serverName: section.serverName, verify: !tlsInsecure }
}

/** Tries what the files say now: at the first connection it would only be one more reason why that failed. */
function check(
  field: string,
  path: string | null,
  { ca, cert, key }: { ca?: string | null; cert?: string | null; key?: string | null },
): void {
  try {
    createSecureContext({ ca: ca ?? undefined, cert: cert ?? undefined, key: key ?? undefined })
  } catch (error) {
    throw mistake(field, path ?? '', `can't be used (${reasonOf(error)})`)
  }
}

function readPem(field: string, path: string | null): string | null {
  if (path === null) return null
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw mistake(field, path, `can't be read (${reasonOf(error)})`)
  }
  if (!text.includes('-----BEGIN ')) throw mistake(field, path, 'is no PEM file')
  return text
}

function mistake(field: string, path: string, what: string): ConfigError {
  const problem = { path: `${SECTION}.tls.${field}`, line: null, column: null, message: what }
  return new ConfigError(path, [problem])
}

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error)
}
