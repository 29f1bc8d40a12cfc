/**
 * A request about which something has to be found out first. It is not read any further meanwhile: what had been read with its head is kept, the rest
 * stays with the client, who costs no memory until it is known who that is.
 */
import { BodyBuffer } from './body-buffer.ts'
import type { HttpResponse } from './native.ts'

/** The part of a body that had been read. */
export interface EarlyBody {
  readonly bytes: Uint8Array
  /** Whether that is all of it. */
  readonly isWhole: boolean
}

/** See the file comment. Takes the callbacks of the response until it is released. */
export class HeldRequest {
  readonly #res: HttpResponse
  readonly #early = new BodyBuffer()
  #isWhole = false
  #isGone = false
  #isReleased = false

  constructor(res: HttpResponse) {
    this.#res = res
    res.onAborted(() => {
      this.#isGone = true
    })
    res.onData((lent, isLast) => {
      if (this.#isReleased) return
      this.#early.append(new Uint8Array(lent))
      this.#isWhole = isLast
    })
    res.pause()
  }

  /** Reads on. Whoever calls this takes the callbacks of the response over, in the same turn. Undefined when the client has left. */
  release(): EarlyBody | undefined {
    this.#isReleased = true
    if (this.#isGone) return undefined
    this.#res.resume()
    return { bytes: this.#early.take(), isWhole: this.#isWhole }
  }
}
