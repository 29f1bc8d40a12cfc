/** Random choices that a seed decides: the same seed, the same choices, on every machine. */

/** xorshift128 (Marsaglia 2003), seeded by hashing: good enough to choose, and the same everywhere. */
export class Random {
  readonly #state = new Uint32Array(4)

  /** All parts together are the seed. */
  constructor(...seed: readonly (number | string)[]) {
    let hash = 0x811c9dc5
    for (const character of seed.join('/')) {
      hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
    }
    for (let i = 0; i < 4; i++) {
      // splitmix32: spreads what differs in one bit over all of them.
      hash = (hash + 0x9e3779b9) | 0
      let mixed = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad)
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
      this.#state[i] = (mixed ^ (mixed >>> 15)) | 1
    }
  }

  /** 32 random bits. */
  next(): number {
    const [x = 0, y = 0, z = 0, w = 0] = this.#state
    const t = x ^ (x << 11)
    const result = (w ^ (w >>> 19) ^ t ^ (t >>> 8)) >>> 0
    this.#state.set([y, z, w, result])
    return result
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * limit)
  }

  /** A whole number from `min` to `max`. */
  between(min: number, max: number): number {
    return min + this.below(max - min + 1)
  }

  chance(probability: number): boolean {
    return this.next() / 0x1_0000_0000 < probability
  }

  /** One of several; they must not be none. */
  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined && items.length === 0) throw new RangeError('nothing to pick from')
    return item as T // the index is within bounds, so that this is an element, undefined or not
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }

  /** Text of characters that make trouble somewhere. */
  text(maxLength: number): string {
    return Array.from({ length: this.below(maxLength + 1) }, () =>
      this.chance(0.7) ? String.fromCharCode(this.between(0x20, 0x7e)) : this.pick(ODD_CHARACTERS),
    ).join('')
  }
}

const ODD_CHARACTERS = [
  '\u0000',
  '\u0001',
  '\t',
  '\n',
  '\r',
  '\u007f',
  '\u0080',
  '\u00e4',
  '\u2028',
  '\u202e',
  '\ufeff',
  '\ufffd',
  '\ud800',
  '\udc00',
  '\u{1f600}',
  '\u017f',
  '"',
  '\\',
  '/',
  '..',
  '%00',
  '%2e',
  '{',
  '}',
  '[',
  ']',
]
