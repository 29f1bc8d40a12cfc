/** One GET at an upstream: repeated while the upstream can't take it yet, and handed out event by event. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import { isEventStream } from '../exchange/media-type.ts'
import { toAdapterError } from '../exchange/adapter-error.ts'
import { withoutHeader } from '../upstream/forwarded-headers.ts'
import type { AnswerListener, Upstream, UpstreamCall } from '../upstream/upstream.ts'

/** How long to wait before a GET that was answered 409 is sent again, in milliseconds; the last one counts for all that follow. */
const CONFLICT_WAITS_MS = [10, 20, 50, 100, 200] as const

/** How a GET is sent, and what may be done about a refusal. */
export interface GetPlan {
  /** Builds the upstream headers, with the client's Last-Event-ID or without; called again for a repetition. */
  readonly headers: (resumes: boolean) => HeaderList
  /** Whether there is a Last-Event-ID. */
  readonly resumes: boolean
  /** Gets a lost upstream session back; undefined when there is none to lose, or nobody to do that for. */
  readonly recover: (() => Promise<boolean>) | undefined
  /** How many times that may be tried. */
  readonly recoveries: number
  /** Whether an event id that the upstream refuses may be left out. */
  readonly mayStartAfresh: () => boolean
}

/** Receives the one answer that counts. Nothing is called after `abort`. */
export interface GetListener {
  /** `call` paces what follows. */
  head(status: number, headers: HeaderList, call: UpstreamCall): void
  /** A whole event with the blank line that ends it, when the answer is a stream of events that can be read; else a piece of the body. */
  data(chunk: Uint8Array): void
  end(): void
  error(error: AdapterError): void
}

/** What a GET is made of. */
export interface UpstreamGetOptions {
  readonly upstream: Upstream
  readonly plan: GetPlan
  /**
   * For how long a 409 is taken for an earlier GET of this session that the upstream has not seen the end of, in milliseconds; null until
   * `bePatientFor` says.
   */
  readonly conflictPatienceMs: number | null
  readonly maxEventBytes: number
  readonly listener: GetListener
}

/** See the file comment. */
export class UpstreamGet implements AnswerListener, UpstreamCall {
  readonly #options: UpstreamGetOptions
  #listener: GetListener
  #impatientAtMs = Infinity
  #call: UpstreamCall | undefined
  #splitter: SseSplitter | undefined
  #timer: NodeJS.Timeout | undefined
  #conflicts = 0
  #recoveriesLeft: number
  #resumes: boolean
  #isOver = false

  constructor(options: UpstreamGetOptions) {
    this.#options = options
    this.#listener = options.listener
    this.#recoveriesLeft = options.plan.recoveries
    this.#resumes = options.plan.resumes
    if (options.conflictPatienceMs !== null) this.bePatientFor(options.conflictPatienceMs)
  }

  /** Whether the request that was answered had a Last-Event-ID. */
  get resumes(): boolean {
    return this.#resumes
  }

  /** See `conflictPatienceMs`; from now on. */
  bePatientFor(ms: number): void {
    this.#impatientAtMs = performance.now() + ms
  }

  send(): void {
    const { upstream, plan } = this.#options
    // Events are looked at here, and may have to be kept.
    const headers = [
      ...withoutHeader(plan.headers(this.#resumes), 'accept-encoding'),
      'accept-encoding',
      'identity',
    ]
    this.#call = upstream.call({ method: 'GET', headers, body: null, isSafe: true }, this)
  }

  /** The rest of the answer goes to another listener. */
  handTo(listener: GetListener): void {
    this.#listener = listener
  }

  abort(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#call?.abort()
  }

  pause(): void {
    this.#call?.pause()
  }

  resume(): void {
    this.#call?.resume()
  }

  head(status: number, headers: HeaderList): void {
    if (this.#isOver) return
    const { plan, maxEventBytes } = this.#options
    if (status === 409 && performance.now() < this.#impatientAtMs) {
      this.#call?.abort()
      const waitMs = CONFLICT_WAITS_MS[this.#conflicts++] ?? CONFLICT_WAITS_MS.at(-1)
      this.#timer = setTimeout(() => this.send(), waitMs)
      return
    }
    if (status === 404 && plan.recover !== undefined && this.#recoveriesLeft > 0) {
      this.#recoveriesLeft--
      this.#call?.abort()
      this.#recover(plan.recover)
      return
    }
    if (status >= 400 && status !== 405 && this.#resumes && plan.mayStartAfresh()) {
      this.#resumes = false
      this.#call?.abort()
      this.send()
      return
    }
    if (status === 200 && isReadable(headers)) this.#splitter = new SseSplitter(maxEventBytes)
    this.#listener.head(status, headers, this)
  }

  data(chunk: Uint8Array): void {
    if (this.#isOver) return
    if (this.#splitter === undefined) {
      this.#listener.data(chunk)
      return
    }
    let events: Uint8Array[]
    try {
      events = this.#splitter.push(chunk)
    } catch (error) {
      this.#call?.abort()
      this.error(toAdapterError(error))
      return
    }
    for (const event of events) if (!this.#hasEnded()) this.#listener.data(event)
  }

  end(): void {
    if (this.#isOver) return
    this.#isOver = true
    const rest = this.#splitter?.rest()
    if (rest !== undefined && rest.byteLength > 0) this.#listener.data(rest)
    this.#listener.end()
  }

  error(error: AdapterError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#listener.error(error)
  }

  /** A listener may give up between two events of a chunk. */
  #hasEnded(): boolean {
    return this.#isOver
  }

  #recover(recover: () => Promise<boolean>): void {
    recover().then(
      (recovered) => {
        if (this.#isOver) return
        if (recovered) {
          // The event id was of the session before.
          this.#resumes = false
          this.send()
        } else
          this.error(
            new AdapterError(
              'ADAPTER_SESSION_UNKNOWN',
              'the upstream server ended this session; initialize a new one',
            ),
          )
      },
      () =>
        this.error(
          new AdapterError(
            'ADAPTER_UPSTREAM_UNREACHABLE',
            'the upstream server can not be reached',
          ),
        ),
    )
  }
}

/** Whether events can be told apart: an upstream may compress though it was asked not to. */
export function isReadable(headers: HeaderList): boolean {
  return isEventStream(headers) && !headers.includes('content-encoding')
}
