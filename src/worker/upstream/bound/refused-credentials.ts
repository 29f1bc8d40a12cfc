/**
 * An answer over HTTP that is about credentials (401, 403), as it came: what becomes of it depends on whose they are, and is decided where that is for
 * every transport.
 */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { CollectedAnswer } from '../collect.ts'

/** What of the body is handed on, in bytes. */
const MAX_BYTES = 65_536

/** See the file comment. */
export class RefusedCredentials extends AdapterError {
  readonly answer: CollectedAnswer

  constructor(answer: CollectedAnswer) {
    super('ADAPTER_UPSTREAM_REFUSED', `the upstream server answered ${answer.status}`)
    this.answer = answer
  }
}

/** Reads such an answer. */
export class RefusedCredentialsReader {
  readonly #status: number
  readonly #headers: HeaderList
  readonly #parts: Uint8Array[] = []
  #bytes = 0

  private constructor(status: number, headers: HeaderList) {
    this.#status = status
    this.#headers = headers
  }

  /** Undefined for any other answer. */
  static of(status: number, headers: HeaderList): RefusedCredentialsReader | undefined {
    return status === 401 || status === 403
      ? new RefusedCredentialsReader(status, headers)
      : undefined
  }

  /** False when nothing more is wanted. */
  take(chunk: Uint8Array): boolean {
    const part = chunk.slice(0, MAX_BYTES - this.#bytes)
    this.#parts.push(part)
    this.#bytes += part.byteLength
    return this.#bytes < MAX_BYTES
  }

  /** The answer as an error. */
  error(): RefusedCredentials {
    const body = Buffer.concat(this.#parts)
    return new RefusedCredentials({ status: this.#status, headers: this.#headers, body })
  }
}
