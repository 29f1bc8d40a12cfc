/**
 * A map from numbers for what comes and goes with each request. It forgets what is deleted; `Map` does not: V8 keeps a chain from each table of a map that
 * was outgrown or had too many deletions to the next one. Once one of them is in the old generation, all that follow it, and whatever was in them, stay
 * alive until the next full collection, and each minor one copies them. See decision 37.
 */

/** No key. */
const EMPTY = -1
const SMALLEST_BITS = 6
/** 2³² divided by the golden ratio: numbers that follow one another land far apart. */
const SPREAD = 0x9e3779b1

/** See the file comment. Keys are whole numbers from 0 on; open addressing, at most half full. */
export class NumberMap<V> {
  #bits = SMALLEST_BITS
  #keys: number[] = emptyKeys(SMALLEST_BITS)
  #values: (V | undefined)[] = emptyValues(SMALLEST_BITS)
  #size = 0

  get size(): number {
    return this.#size
  }

  get(key: number): V | undefined {
    return this.#values[this.#find(key)]
  }

  set(key: number, value: V): void {
    let at = this.#find(key)
    if (this.#keys[at] === EMPTY) {
      if (this.#size * 2 >= this.#keys.length) {
        this.#grow()
        at = this.#find(key)
      }
      this.#keys[at] = key
      this.#size++
    }
    this.#values[at] = value
  }

  /** Whether it was there. */
  delete(key: number): boolean {
    const keys = this.#keys
    const values = this.#values
    const mask = keys.length - 1
    let hole = this.#find(key)
    if (keys[hole] === EMPTY) return false
    // What follows moves up, unless that would put it before the place where it is looked for.
    for (let at = (hole + 1) & mask; ; at = (at + 1) & mask) {
      const other = keys[at] ?? EMPTY
      if (other === EMPTY) break
      if (((at - this.#home(other)) & mask) < ((at - hole) & mask)) continue
      keys[hole] = other
      values[hole] = values[at]
      hole = at
    }
    keys[hole] = EMPTY
    values[hole] = undefined
    this.#size--
    return true
  }

  /** All at this moment, in no order. */
  entries(): [key: number, value: V][] {
    const all: [number, V][] = []
    for (const [at, key] of this.#keys.entries()) {
      // A place with a key has a value.
      if (key !== EMPTY) all.push([key, this.#values[at] as V])
    }
    return all
  }

  /** As `entries`. */
  values(): V[] {
    return this.entries().map(([, value]) => value)
  }

  clear(): void {
    this.#keys = emptyKeys(this.#bits)
    this.#values = emptyValues(this.#bits)
    this.#size = 0
  }

  /** Where a key is, or would be. */
  #find(key: number): number {
    const keys = this.#keys
    const mask = keys.length - 1
    let at = this.#home(key)
    while (keys[at] !== key && keys[at] !== EMPTY) at = (at + 1) & mask
    return at
  }

  #home(key: number): number {
    return Math.imul(key, SPREAD) >>> (32 - this.#bits)
  }

  #grow(): void {
    const all = this.entries()
    this.#bits++
    this.clear()
    for (const [key, value] of all) this.set(key, value)
  }
}

function emptyKeys(bits: number): number[] {
  return Array.from({ length: 1 << bits }, () => EMPTY)
}

function emptyValues(bits: number): undefined[] {
  return Array.from({ length: 1 << bits }, () => undefined)
}
