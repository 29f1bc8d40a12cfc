/** The answer to a request that a proxy was given whole. One status can only be the proxy's own: to a client it would ask for credentials that are not its. */
import type { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { AnswerListener } from '../upstream.ts'
import { refused } from './proxy.ts'

const PROXY_AUTHENTICATION_REQUIRED = 407

/** See the file comment. */
export class ProxiedAnswer implements AnswerListener {
  readonly #listener: AnswerListener
  readonly #abort: () => void

  constructor(listener: AnswerListener, abort: () => void) {
    this.#listener = listener
    this.#abort = abort
  }

  head(status: number, headers: HeaderList): void {
    if (status !== PROXY_AUTHENTICATION_REQUIRED) {
      this.#listener.head(status, headers)
      return
    }
    this.#abort()
    this.#listener.error(refused(String(status)))
  }

  data(chunk: Uint8Array): void {
    this.#listener.data(chunk)
  }

  end(): void {
    this.#listener.end()
  }

  error(error: AdapterError): void {
    this.#listener.error(error)
  }
}
