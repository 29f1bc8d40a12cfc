/**
 * Every test file that starts an adapter is also a test that it wrote no secret: what its processes wrote on both outputs is kept, and searched when the
 * file ends, for every secret that they were given or gave out, and for whatever looks like one. What is found fails the file.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What was found: where, and what kind of secret. */
export interface Leak {
  readonly source: string
  readonly what: string
  /** The line that it stands on. */
  readonly line: string
}

/** Shorter ones are found in any text. The redactor has the same bound. */
const MIN_SECRET_CHARS = 6
/** Fields of a configuration that hold secrets, and those whose fields do. Said here again: a list that both sides share could lack the same. */
const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'token',
  'signing_secret',
  'password',
  'passphrase',
])
const SECRET_MAPS: ReadonlySet<string> = new Set(['static_headers', 'headers', 'env'])
/** What is secret by its looks, though nobody told us. */
const SHAPES: readonly (readonly [what: string, pattern: RegExp])[] = [
  ['a whole session id', /(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{32}(?![\w-])/],
  ['a signature or key', /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/],
  ['a nonce or signature of a URL', /mcp_(?:upload|artifact)_(?:nonce|sig)=(?!<redacted>)/],
  ['credentials in a URL', /[a-z]:\/\/(?!<redacted>@)[^\s/@"]+@/],
  ['a token', /\b(?:[Bb]earer|[Bb]asic) (?=[\w.+/=-]*\d)[\w.+/=-]{8,}/],
  ['a JSON Web Token', /\beyJ[\w-]{8,}\.[\w-]{8,}/],
  ['a private key', /PRIVATE KEY-----/],
]
/** In answers to clients: what they are given and nobody else may see. */
const HANDED_OUT = /mcp_(?:upload_(?:nonce|sig|session)|artifact_sig)=([\w-]+)/g

const outputs = new Map<string, () => string>()
const secrets = new Set<string>()

/** Has the output of a process searched when this test file ends. */
export function watchOutput(source: string, output: () => string): void {
  if (outputs.size === 0) process.once('exit', report)
  outputs.set(`${source} #${outputs.size + 1}`, output)
}

/** Notes secrets that a process was given or gave out; short ones don't count. */
export function noteSecrets(values: Iterable<string>): void {
  for (const value of values) if (value.trim().length >= MIN_SECRET_CHARS) secrets.add(value.trim())
}

/** Notes a secret that is made for a test, and answers it. */
export function noted(secret: string): string {
  noteSecrets([secret])
  return secret
}

/** Notes the secrets in a configuration as in the file. */
export function noteConfig(config: unknown): void {
  noteSecrets(secretsIn(config, false))
}

/** Notes what an answer gives to its client: signatures, nonces, session ids. `sessionId` is the value of its header. */
export function noteAnswer(body: string, sessionId?: string | null): void {
  if (typeof sessionId === 'string') noteSecrets([sessionId])
  for (const [, parameter = ''] of body.matchAll(HANDED_OUT)) noteSecrets([parameter])
}

/** Notes the key that an adapter made for itself, if it did. */
export function noteSigningSecret(root: string): void {
  try {
    noteSecrets([readFileSync(join(root, 'state', 'signing-secret'), 'utf8')])
  } catch {
    // It was given one.
  }
}

/** Searches all that was written so far. */
export function findLeaks(): readonly Leak[] {
  return [...outputs].flatMap(([source, output]) => leaksIn(source, output()))
}

/** Searches a text. */
export function leaksIn(source: string, text: string): readonly Leak[] {
  const known = [...secrets].filter((secret) => text.includes(secret))
  return [
    ...known.map((secret) => ({ source, what: 'a known secret', line: lineWith(text, secret) })),
    ...SHAPES.flatMap(([what, pattern]) => {
      const found = pattern.exec(text)?.[0]
      return found === undefined ? [] : [{ source, what, line: lineWith(text, found) }]
    }),
  ]
}

function report(): void {
  const leaks = findLeaks()
  if (leaks.length === 0) return
  for (const { source, what, line } of leaks)
    process.stderr.write(`\nSECRET WRITTEN by ${source}: ${what}\n  ${line}\n`)
  process.exitCode = 1
}

function lineWith(text: string, part: string): string {
  return text.split('\n').find((line) => line.includes(part.split('\n')[0] ?? '')) ?? ''
}

function secretsIn(node: unknown, isSecret: boolean): string[] {
  if (typeof node === 'string') return isSecret ? [node] : credentialsIn(node)
  if (typeof node !== 'object' || node === null) return []
  return Object.entries(node).flatMap(([key, value]) =>
    secretsIn(value, isSecret || SECRET_FIELDS.has(key) || SECRET_MAPS.has(key)),
  )
}

function credentialsIn(text: string): string[] {
  const [, password = ''] = /^[a-z]+:\/\/[^/@]*:([^/@]+)@/.exec(text) ?? []
  return password === '' ? [] : [password, decodeURIComponent(password)]
}
