/**
 * Takes secrets out of what leaves the process for people to read: log lines, messages on the terminal, labels and attributes of telemetry. It knows
 * the secrets that this process was given, and the shapes of those that it and others make.
 */
import { isSecretName, maskUrls, REDACTED } from './config/secrets.ts'

/** What a redactor knows. */
export interface KnownSecrets {
  /** Values that must not be shown wherever they stand. */
  readonly values: readonly string[]
  /** Names of headers and fields whose values must not be shown, besides those that always are secret. */
  readonly names?: readonly string[]
}

/** Shorter ones are common words and numbers: taken out of every text they would make it unreadable and hide nothing. */
const MIN_SECRET_CHARS = 6
/** What is longer is cut: a text that an upstream or a client made must not fill a log. */
const MAX_TEXT_CHARS = 16_384
/** How deep a value is looked into. */
const MAX_DEPTH = 8

const PRIVATE_KEY =
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g
/** `Bearer …` and `Basic …`; words that follow in prose have no capitals, digits or padding. */
const SCHEME_CREDENTIAL =
  /\b([Bb]earer|BEARER|[Bb]asic|BASIC)\s+(?=[^\s"']*[A-Z0-9=])[\w.~+/=-]{8,}/g
/** A JSON Web Token: its header is an object, and so its first characters are these. */
const JWT = /\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*/g
/** `name: value` of headers that carry credentials, and `name=value` of anything that is called like one. */
const HEADER_CREDENTIAL =
  /\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api-key|mcp-session-id)(["']?\s*[:=]\s*["']?)[^"'\r\n]+/gi
const ASSIGNED =
  /\b((?:[\w-]{0,64}[_-])?(?:token|secret|password|passwd|api_?key|signature|sig|nonce))=(?!<redacted>)[^\s&"',;]+/gi
/** One of our session ids (ids.ts), or what looks like one. */
const SESSION_ID = /(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{32}(?![\w-])/g

/** See the file comment. */
export class Redactor {
  readonly #values = new Set<string>()
  readonly #names = new Set<string>()
  #pattern: RegExp | undefined

  constructor(known: KnownSecrets) {
    this.learn(known)
  }

  /** Takes notice of more secrets, for example keys that are made or fetched after the start. */
  learn({ values, names = [] }: KnownSecrets): void {
    for (const name of names) this.#names.add(name.toLowerCase())
    for (const value of values) {
      for (const form of formsOf(value)) {
        if (form.length >= MIN_SECRET_CHARS) this.#values.add(form)
      }
    }
    const longestFirst = [...this.#values].toSorted((a, b) => b.length - a.length)
    this.#pattern =
      longestFirst.length === 0
        ? undefined
        : new RegExp(longestFirst.map((value) => escapeRegExp(value)).join('|'), 'g')
  }

  /** The text with every secret replaced by `<redacted>` and session ids shortened; cut when it is very long. */
  text(text: string): string {
    // Before it is cut, so that no part of a secret stays at the end.
    const known = this.#pattern === undefined ? text : text.replace(this.#pattern, REDACTED)
    const bounded = known.length > MAX_TEXT_CHARS ? `${known.slice(0, MAX_TEXT_CHARS)}…` : known
    return maskUrls(bounded)
      .replace(PRIVATE_KEY, REDACTED)
      .replace(SCHEME_CREDENTIAL, `$1 ${REDACTED}`)
      .replace(JWT, REDACTED)
      .replace(HEADER_CREDENTIAL, `$1$2${REDACTED}`)
      .replace(ASSIGNED, `$1=${REDACTED}`)
      .replace(SESSION_ID, (id) => shortId(id))
  }

  /** A copy of a JSON value in which every text is redacted, and every value whose name says that it is a secret replaced. */
  value(value: unknown, depth = 0): unknown {
    if (typeof value === 'string') return this.text(value)
    if (typeof value !== 'object' || value === null) return value
    if (depth >= MAX_DEPTH) return '<too deep>'
    if (Array.isArray(value)) return value.map((entry) => this.value(entry, depth + 1))
    return Object.fromEntries(
      Object.entries(value).map(([name, entry]) => [
        this.text(name),
        this.isSecret(name) && entry !== null ? REDACTED : this.value(entry, depth + 1),
      ]),
    )
  }

  /** Whether what has this name must not be shown. */
  isSecret(name: string): boolean {
    return isSecretName(name) || this.#names.has(name.toLowerCase())
  }
}

/** A session id short enough to be harmless in a log. */
export function shortId(id: string): string {
  return `${id.slice(0, 6)}…`
}

/** A secret as it may stand in a text: as it is, in a URL, in JSON, and without the name of its scheme. */
function formsOf(secret: string): readonly string[] {
  const bare = secret.trim()
  const [, credential] = /^(?:bearer|basic|token)\s+(\S+)$/i.exec(bare) ?? []
  const plain = credential === undefined ? [bare] : [bare, credential]
  return plain.flatMap((form) => [
    form,
    // Through bytes, because half a character can't be encoded.
    encodeURIComponent(Buffer.from(form).toString()),
    JSON.stringify(form).slice(1, -1),
  ])
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`)
}
