/** Which fields hold secrets, what they hold, and how they are hidden when the configuration is shown. */

import { MAP_FIELDS } from './camel.ts'

/** What stands in place of a secret. */
export const REDACTED = '<redacted>'

const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'token',
  'signing_secret',
  'password',
  'passphrase',
  'key_passphrase',
])
/** `scheme://user:password@` with either part possibly missing. */
const CREDENTIALS = /([A-Za-z][A-Za-z0-9+.-]{0,31}:\/\/)[^/?#\s]*@/g
/** Values of query parameters that are commonly keys, ours among them. Bounded: a long text without an end must not take long. */
const QUERY_SECRET =
  /([?&](?:[^=&#\s]{0,64}(?:token|key|secret|password|signature|auth|nonce)[^=&#\s]{0,64}|(?:[^=&#\s]{0,64}[_-])?sig)=)[^&#\s]*/gi
/** How the name of a secret ends, without separators. Not `tokens`, of which there is a number. */
const SECRET_NAME =
  /(?:token|secret|password|passwd|passphrase|cookie|authorization|apikey|privatekey|signature|nonce|credentials?)$|^sig$/
/** Lists of header names: what these headers hold is nobody's business but the upstream's. */
const NAME_LISTS: ReadonlySet<string> = new Set(['passthrough', 'required'])
const MAPS: ReadonlySet<string> = new Set([...MAP_FIELDS, 'staticHeaders'])

/** True for a path whose value must never be shown: a secret field, or the value of a header or an environment variable. */
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

/** True for a name, of a header or a field in any spelling, whose value must never be shown. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name.toLowerCase().replace(/[_-]/g, ''))
}

/** The secrets of a configuration, in either spelling of its keys: the values to hide, and the names of headers whose values are to be hidden. */
export function secretsOf(config: unknown): {
  readonly values: readonly string[]
  readonly names: readonly string[]
} {
  const values = new Set<string>()
  const names = new Set<string>()
  const visit = (node: unknown, path: readonly string[]): void => {
    if (typeof node === 'string') {
      if (isSecretValue(path)) values.add(node)
      else if (isHeaderName(path)) names.add(node)
      else for (const secret of secretsInUrl(node)) values.add(secret)
    } else if (typeof node === 'object' && node !== null) {
      for (const [key, entry] of Object.entries(node)) {
        if (isHeaderMap(path.at(-1) ?? '')) names.add(key)
        visit(entry, [...path, key])
      }
    }
  }
  visit(config, [])
  return { values: [...values], names: [...names] }
}

function isSecretValue(path: readonly string[]): boolean {
  return path.some(
    (part, index) => isSecretName(part) || (MAPS.has(part) && index < path.length - 1),
  )
}

/** Names of environment variables are common words: a field of the log that is called so is no secret. */
function isHeaderMap(name: string): boolean {
  return MAPS.has(name) && name !== 'env'
}

function isHeaderName(path: readonly string[]): boolean {
  const last = path.at(-1) ?? ''
  return last === 'headerName' || last === 'header_name' || NAME_LISTS.has(path.at(-2) ?? '')
}

/** The password (where there is none, the user is one) and what query parameters hold that are named like keys, as written and decoded. */
function secretsInUrl(text: string): string[] {
  if (!text.includes('://') || !URL.canParse(text)) return []
  const { username, password, searchParams } = new URL(text)
  const inQuery = [...searchParams].filter(([name]) => isSecretName(name)).map(([, value]) => value)
  const credential = password === '' ? username : password
  return [credential, ...inQuery].flatMap((secret) => [secret, decoded(secret)])
}

/** Percent-decoded where that can be, else as it is. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
