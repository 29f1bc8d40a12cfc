/** One message on its way to an upstream by a POST whose answer only says whether it was taken. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from '../upstream.ts'
import { RefusedCredentialsReader } from './refused-credentials.ts'

/** What an answer may hold besides its status, in bytes; nobody reads it. */
const MAX_ANSWER_BYTES = 65_536

/** How it is told how it went: one of the two is called, once. */
interface PostedMessageOptions {
  /** Longest wait for the answer and for its end. */
  readonly timeoutMs: number
  readonly resolve: () => void
  readonly reject: (error: AdapterError) => void
  /** Called once, when nothing of it is left. */
  readonly onOver: () => void
}

/** See the file comment. */
export class PostedMessage implements AnswerListener {
  readonly #options: PostedMessageOptions
  #call: UpstreamCall | undefined
  #timer: NodeJS.Timeout | undefined
  #refused: RefusedCredentialsReader | undefined
  #bytes = 0
  #isOver = false

  constructor(options: PostedMessageOptions) {
    this.#options = options
  }

  /** Once. */
  start(resource: Pick<Upstream, 'call'>, request: UpstreamRequest): void {
    const { timeoutMs } = this.#options
    this.#timer = setTimeout(() => {
      this.abort(
        new AdapterError(
          'ADAPTER_UPSTREAM_TIMEOUT',
          `the upstream server did not take a message within ${timeoutMs / 1_000} s`,
        ),
      )
    }, timeoutMs)
    this.#call = resource.call(request, this)
  }

  /** Gives it up. Whether the upstream has it is not known then. */
  abort(error: AdapterError): void {
    if (this.#isOver) return
    this.#call?.abort()
    this.error(error)
  }

  head(status: number, headers: HeaderList): void {
    this.#refused = RefusedCredentialsReader.of(status, headers)
    if (this.#refused !== undefined) return
    if (status === 200 || status === 202 || status === 204) {
      this.#options.resolve()
      return
    }
    const isPassing = status === 429 || status >= 500
    this.#options.reject(
      new AdapterError(
        isPassing ? 'ADAPTER_UPSTREAM_UNREACHABLE' : 'ADAPTER_UPSTREAM_INVALID',
        `the upstream server answered a message with status ${status}`,
      ),
    )
  }

  data(chunk: Uint8Array): void {
    if (this.#refused?.take(chunk) === false) {
      this.#call?.abort()
      this.end()
    }
    this.#bytes += chunk.byteLength
    if (this.#bytes <= MAX_ANSWER_BYTES) return
    this.#call?.abort()
    this.end()
  }

  end(): void {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#options.onOver()
    if (this.#refused !== undefined) this.#options.reject(this.#refused.error())
  }

  error(error: AdapterError): void {
    if (this.#isOver) return
    this.end()
    // Without effect when the answer had begun: what is cut then is nothing that anybody reads.
    this.#options.reject(error)
  }
}
