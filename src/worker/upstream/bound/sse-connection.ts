/** One connection of the HTTP+SSE transport: the event stream that an upstream sends, and the POSTs that go to the resource it names there. */
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import { headerValue } from '../../../shared/frames/header-list.ts'
import { eventData, eventDataBytes, eventName } from '../../../shared/sse-event.ts'
import { SseSplitter } from '../../../shared/sse-splitter.ts'
import type { AnswerListener, Upstream, UpstreamCall } from '../upstream.ts'
import type { MessageConnection, MessageListener } from './message-connection.ts'
import { endpointPath } from './sse-endpoint.ts'
import { PostedMessage } from './posted-message.ts'
import { RefusedCredentialsReader } from './refused-credentials.ts'

/** What a connection is made of. */
export interface SseConnectionOptions {
  /** Where the stream is; messages go to the same origin. */
  readonly url: URL
  readonly stream: Pick<Upstream, 'call'>
  /** The resource of a path and query of that origin. */
  readonly posts: (path: string) => Pick<Upstream, 'call'>
  /** They go with every request that has no header of the same name. */
  readonly staticHeaders: HeaderList
  /** Largest event, in bytes. */
  readonly maxEventBytes: number
  /** Longest wait for the endpoint, connecting included. */
  readonly openTimeoutMs: number
  /** Longest wait for the answer to a POST. */
  readonly postTimeoutMs: number
  readonly listener: MessageListener
  /** Called once, when nothing of it is left. */
  readonly onOver: () => void
}

/** Headers of a client's request that say something about that request alone, or that are written here. */
const NOT_TAKEN_OVER: ReadonlySet<string> = new Set([
  'accept',
  'accept-encoding',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-type',
  'last-event-id',
  'mcp-session-id',
])

const STREAM_HEADERS = [
  'accept',
  'text/event-stream',
  'accept-encoding',
  'identity',
  'cache-control',
  'no-store',
] as const
const POST_HEADERS = ['accept', '*/*', 'content-type', 'application/json'] as const

/** See the file comment. */
export class SseConnection implements MessageConnection, AnswerListener {
  readonly #options: SseConnectionOptions
  readonly #splitter: SseSplitter
  readonly #underWay = new Set<PostedMessage>()
  #call: UpstreamCall | undefined
  #refused: RefusedCredentialsReader | undefined
  #posts: Pick<Upstream, 'call'> | undefined
  #settle: { resolve: () => void; reject: (error: AdapterError) => void } | undefined
  #isOver = false

  constructor(options: SseConnectionOptions) {
    this.#options = options
    this.#splitter = new SseSplitter(options.maxEventBytes)
  }

  /** Asks for the stream; resolves when the endpoint is known. Once. */
  async open(headers: HeaderList, signal: AbortSignal): Promise<void> {
    const { openTimeoutMs, stream } = this.#options
    const timer = setTimeout(
      () =>
        this.#fail(
          new AdapterError(
            'ADAPTER_UPSTREAM_TIMEOUT',
            `the upstream server did not open its event stream and name its endpoint within ${openTimeoutMs / 1_000} s`,
          ),
        ),
      openTimeoutMs,
    )
    const abort = (): void => this.#fail(abortError(signal))
    signal.addEventListener('abort', abort, { once: true })
    try {
      await new Promise<void>((resolve, reject) => {
        this.#settle = { resolve, reject }
        if (signal.aborted) {
          abort()
          return
        }
        const all = [...this.#headers(headers), ...STREAM_HEADERS]
        this.#call = stream.call({ method: 'GET', headers: all, body: null, isSafe: true }, this)
      })
    } finally {
      this.#settle = undefined
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    }
  }

  send(message: Uint8Array, headers: HeaderList): Promise<void> {
    const posts = this.#posts
    if (this.#isOver || posts === undefined) return Promise.reject(gone())
    return new Promise((resolve, reject) => {
      const posted: PostedMessage = new PostedMessage({
        timeoutMs: this.#options.postTimeoutMs,
        onOver: () => this.#underWay.delete(posted),
        resolve,
        reject,
      })
      this.#underWay.add(posted)
      const all = [...this.#headers(headers), ...POST_HEADERS]
      posted.start(posts, { method: 'POST', headers: all, body: message, isSafe: false })
    })
  }

  pause(): void {
    if (!this.#isOver) this.#call?.pause()
  }

  resume(): void {
    if (!this.#isOver) this.#call?.resume()
  }

  async close(): Promise<void> {
    const settle = this.#settle
    this.#end(gone())
    settle?.reject(gone())
  }

  head(status: number, headers: HeaderList): void {
    this.#refused = RefusedCredentialsReader.of(status, headers)
    if (this.#refused !== undefined) return
    const refusal = streamRefusal(status, headers)
    if (refusal !== undefined) this.#fail(refusal)
  }

  data(chunk: Uint8Array): void {
    if (this.#isOver) return
    if (this.#refused !== undefined) {
      if (!this.#refused.take(chunk)) this.end()
      return
    }
    let events: Uint8Array[]
    try {
      events = this.#splitter.push(chunk)
    } catch (error) {
      this.#fail(error instanceof AdapterError ? error : gone())
      return
    }
    for (const event of events) if (!this.#isOver) this.#take(event)
  }

  end(): void {
    this.#fail(
      this.#refused?.error() ??
        new AdapterError(
          'ADAPTER_UPSTREAM_UNREACHABLE',
          'the upstream server ended the event stream that its session is bound to',
        ),
    )
  }

  error(error: AdapterError): void {
    this.#fail(error)
  }

  /** What is no event of the transport is no message either, and is passed over. */
  #take(event: Uint8Array): void {
    const name = eventName(event)
    if (name === 'message' && this.#posts !== undefined) {
      const data = eventDataBytes(event)
      if (data !== undefined && data.byteLength > 0) this.#options.listener.message(data)
    } else if (name === 'endpoint' && this.#posts === undefined) {
      try {
        this.#posts = this.#options.posts(endpointPath(eventData(event) ?? '', this.#options.url))
        this.#settle?.resolve()
      } catch (error) {
        this.#fail(error instanceof AdapterError ? error : gone())
      }
    }
  }

  /** It is over, and whoever has it is told. */
  #fail(error: AdapterError): void {
    if (this.#isOver) return
    const settle = this.#settle
    const wasOpen = this.#posts !== undefined
    this.#end(error)
    if (settle !== undefined) settle.reject(error)
    if (wasOpen) this.#options.listener.closed(error)
  }

  #end(error: AdapterError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#call?.abort()
    for (const posted of this.#underWay) posted.abort(error)
    this.#underWay.clear()
    this.#options.onOver()
  }

  /** A client's headers and the operator's, of which a passed-through one wins. */
  #headers(received: HeaderList): string[] {
    const headers: string[] = []
    const present = new Set<string>()
    for (const list of [received, this.#options.staticHeaders]) {
      const isStatic = list !== received
      for (let i = 0; i + 1 < list.length; i += 2) {
        const name = list[i] ?? ''
        const lower = name.toLowerCase()
        if (NOT_TAKEN_OVER.has(lower) || (isStatic && present.has(lower))) continue
        headers.push(name, list[i + 1] ?? '')
        if (!isStatic) present.add(lower)
      }
    }
    return headers
  }
}

/** Why what answers the GET is not the stream; undefined when it is. */
function streamRefusal(status: number, headers: HeaderList): AdapterError | undefined {
  if (status !== 200) {
    return new AdapterError(
      status === 429 || status >= 500 ? 'ADAPTER_UPSTREAM_UNREACHABLE' : 'ADAPTER_UPSTREAM_INVALID',
      `the upstream server answered the request for its event stream with status ${status}`,
    )
  }
  const type = headerValue(headers, 'content-type')?.toLowerCase() ?? ''
  const encoding = headerValue(headers, 'content-encoding')?.toLowerCase() ?? 'identity'
  if (type.startsWith('text/event-stream') && encoding === 'identity') return undefined
  return new AdapterError(
    'ADAPTER_UPSTREAM_INVALID',
    'the upstream server answered the request for its event stream with something else; is its transport sse?',
  )
}

function gone(): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_UNREACHABLE',
    'the connection to the upstream server is closed',
  )
}

function abortError(signal: AbortSignal): AdapterError {
  return signal.reason instanceof AdapterError
    ? signal.reason
    : new AdapterError(
        'ADAPTER_UPSTREAM_UNREACHABLE',
        'the connection to the upstream server was given up',
      )
}
