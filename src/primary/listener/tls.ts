/** Ending TLS on the listener: the certificate and key of `core.tls`, tried before anything depends on them. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

import type { Config } from '../../shared/config/config.ts'
import { ConfigError } from '../../shared/config/problems.ts'
import type { NativeListener, TlsOptions } from './native.ts'

/** A browser that was here by TLS comes by nothing else for a year (RFC 6797). */
export const STRICT_TRANSPORT = ['strict-transport-security', 'max-age=31536000'] as const

/** What `core.tls` asks for; null when it is off. Throws `ConfigError` when a file can't be read or used. */
export function readTls({ tls }: Pick<Config['core'], 'tls'>): TlsOptions | null {
  const { certFile, keyFile, passphrase } = tls
  if (certFile === null || keyFile === null) return null
  const cert = read('cert_file', certFile)
  const key = read('key_file', keyFile)
  attempt('cert_file', certFile, () => createSecureContext({ cert }))
  const locked = passphrase === null ? {} : { passphrase }
  // With its certificate, so that a key of another one shows.
  attempt('key_file', keyFile, () => createSecureContext({ cert, key, ...locked }))
  return { cert_file_name: certFile, key_file_name: keyFile, ...locked }
}

/** Throws when this build of the listener has no TLS. */
export function requireTls(native: Pick<NativeListener, 'supportsTls' | 'build'>): void {
  if (native.supportsTls) return
  throw new Error(
    `core.tls is set, but the build of the listener that loads on this system (${native.build}) has no TLS. ` +
      'Run on a system with glibc 2.38 or newer (Debian 13, Ubuntu 24.04) with Node 20, 22, 24 or 25, where the current build loads; ' +
      'or end TLS in a proxy in front, remove core.tls, and set core.public_base_url to its https:// address',
  )
}

function read(field: string, path: string): string {
  return attempt(field, path, () => readFileSync(path, 'utf8'))
}

function attempt<T>(field: string, path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    const message = `can't be used (${reason})`
    throw new ConfigError(path, [{ path: `core.tls.${field}`, line: null, column: null, message }])
  }
}
