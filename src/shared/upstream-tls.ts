/** Reads what `servers[].upstream.tls` names, so that a file that can't be used is told at start, by field and path. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

import type { ServerConfig, UpstreamConfig } from './config/config.ts'
import { ConfigError } from './config/problems.ts'

/** What a connection with TLS is made with. */
export interface ClientTlsFiles {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly passphrase: string | undefined
}

/** Throws `ConfigError`, which names field and file, when one of them can't be read or used. `section` is the dotted path of the section. */
export function readClientTls(tls: UpstreamConfig['tls'], section: string): ClientTlsFiles {
  const read = (field: string, path: string | null): string | undefined =>
    path === null ? undefined : readPem(`${section}.${field}`, path)
  const ca = read('ca_file', tls.caFile)
  const cert = read('cert_file', tls.certFile)
  const key = read('key_file', tls.keyFile)
  const passphrase = tls.keyPassphrase ?? undefined
  if (tls.caFile !== null) {
    attempt(`${section}.ca_file`, tls.caFile, () => createSecureContext({ ca }))
  }
  if (tls.certFile !== null) {
    attempt(`${section}.cert_file`, tls.certFile, () => createSecureContext({ cert }))
  }
  if (tls.keyFile !== null) {
    // With its certificate, so that a key of another one shows.
    attempt(`${section}.key_file`, tls.keyFile, () =>
      createSecureContext({ cert, key, passphrase }),
    )
  }
  return { ca, cert, key, passphrase }
}

/** Reads the files of all servers, for their mistakes only. Throws `ConfigError`. */
export function checkClientTls(servers: readonly ServerConfig[]): void {
  for (const [index, { upstream }] of servers.entries()) {
    readClientTls(upstream.tls, `servers[${index}].upstream.tls`)
  }
}

function readPem(field: string, path: string): string {
  const text = attempt(field, path, () => readFileSync(path, 'utf8'))
  if (!text.includes('-----BEGIN ')) throw mistake(field, path, 'is no PEM file')
  return text
}

function attempt<T>(field: string, path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    throw mistake(field, path, `can't be used (${reason})`)
  }
}

function mistake(field: string, path: string, message: string): ConfigError {
  return new ConfigError(path, [{ path: field, line: null, column: null, message }])
}
