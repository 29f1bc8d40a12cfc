/** Names of answer headers, recognised by their bytes: a name becomes a string once, not once per answer. */
import { TOKEN_LOWER } from './characters.ts'

/** Headers that the transport itself acts on. */
export type FramingHeader = 'connection' | 'content-length' | 'keep-alive' | 'transfer-encoding'

/** One name. */
export interface HeaderName {
  /** In lower case. */
  readonly text: string
  /** Whether the listener gets it. */
  readonly isKept: boolean
  readonly framing: FramingHeader | undefined
}

interface KnownName extends HeaderName {
  readonly bytes: Uint8Array
}

/** Servers send a handful of names; one that makes them up must not fill the memory. */
const MAX_KNOWN = 256

/** See the file comment. Shared by the connections of one upstream. */
export class HeaderNames {
  readonly #isKept: (name: string) => boolean
  readonly #known = new Map<number, KnownName>()

  /** `isKept` is asked once per name, in lower case. */
  constructor(isKept: (name: string) => boolean) {
    this.#isKept = isKept
  }

  /** The name at `start` to `end`, which are token characters; `hash` is any number that is the same for the same name in either case. */
  find(bytes: Buffer, start: number, end: number, hash: number): HeaderName {
    const known = this.#known.get(hash)
    if (known !== undefined && isSame(known.bytes, bytes, start, end)) return known
    const text = bytes.toString('latin1', start, end).toLowerCase()
    const name = {
      text,
      isKept: this.#isKept(text),
      framing: framingOf(text),
      bytes: new Uint8Array(Buffer.from(text, 'latin1')),
    }
    if (known === undefined && this.#known.size < MAX_KNOWN) this.#known.set(hash, name)
    return name
  }
}

function isSame(name: Uint8Array, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let i = 0; i < name.length; i++) {
    if (TOKEN_LOWER[bytes[start + i] ?? 0] !== name[i]) return false
  }
  return true
}

function framingOf(text: string): FramingHeader | undefined {
  switch (text) {
    case 'connection':
    case 'content-length':
    case 'keep-alive':
    case 'transfer-encoding':
      return text
    default:
      return undefined
  }
}
