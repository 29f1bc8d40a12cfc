/** Which fields hold secrets, and how they are hidden when the configuration is shown. */

import { MAP_FIELDS } from './camel.ts'

/** What stands in place of a secret. */
export const REDACTED = '<redacted>'

const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'token',
  'signing_secret',
  'password',
  'passphrase',
])
/** `scheme://user:password@` with either part possibly missing. */
const CREDENTIALS = /([A-Za-z][A-Za-z0-9+.-]*:\/\/)[^/?#\s]*@/g
/** Values of query parameters that are commonly keys. */
const QUERY_SECRET =
  /([?&][^=&#\s]*(?:token|key|secret|password|signature|auth)[^=&#\s]*=)[^&#\s]*/gi

/** True for a path whose value must never be shown: a secret field, or the value of a header. */
export function isSecretPath(path: readonly PropertyKey[]): boolean {
  return path.some((part, index) => {
    const name = String(part)
    return SECRET_FIELDS.has(name) || (MAP_FIELDS.has(name) && index < path.length - 1)
  })
}

/** Hides the credentials inside URLs of a text. */
export function maskUrls(text: string): string {
  return text.replace(CREDENTIALS, `$1${REDACTED}@`).replace(QUERY_SECRET, `$1${REDACTED}`)
}

/** A copy of a snake_case configuration tree in which every secret that is set reads `<redacted>`. */
export function maskSecrets(tree: unknown, path: readonly PropertyKey[] = []): unknown {
  if (Array.isArray(tree)) return tree.map((entry, index) => maskSecrets(entry, [...path, index]))
  if (typeof tree === 'object' && tree !== null) {
    return Object.fromEntries(
      Object.entries(tree).map(([key, value]) => [key, maskSecrets(value, [...path, key])]),
    )
  }
  if (tree !== null && isSecretPath(path)) return REDACTED
  return typeof tree === 'string' ? maskUrls(tree) : tree
}
