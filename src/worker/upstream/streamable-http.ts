/** An upstream over Streamable HTTP, on undici's connection pool. */
import { Pool } from 'undici'
import type { Dispatcher } from 'undici'

import type { UpstreamConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { downstreamHeaders } from './forwarded-headers.ts'
import type { AnswerListener, Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** Idle connections are dropped before the common five seconds of servers, so that a request seldom meets one that is being closed. */
const KEEP_ALIVE_MS = 4_000

/** See the file comment. */
export class StreamableHttpUpstream implements Upstream {
  readonly #pool: Pool
  readonly #path: string

  constructor(config: UpstreamConfig) {
    const url = new URL(config.url)
    this.#path = `${url.pathname}${url.search}`
    this.#pool = new Pool(url.origin, {
      connections: config.maxConnections,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // Waits are bounded by the exchange, which knows a stream from a call.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: config.connectTimeoutSeconds * 1_000,
        rejectUnauthorized: !config.insecureTls,
      },
    })
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    const call = new HttpCall(
      listener,
      request.isSafe ? () => this.#dispatch(request, call) : undefined,
    )
    this.#dispatch(request, call)
    return call
  }

  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  #dispatch(request: UpstreamRequest, call: HttpCall): void {
    const { method, headers, body } = request
    this.#pool.dispatch({ path: this.#path, method, headers: [...headers], body }, call)
  }
}

/** undici's handler for one request, and our handle on it. */
class HttpCall implements Dispatcher.DispatchHandler, UpstreamCall {
  readonly #listener: AnswerListener
  #again: (() => void) | undefined
  #controller: Dispatcher.DispatchController | undefined
  #started = false
  #aborted = false
  #paused = false

  constructor(listener: AnswerListener, again: (() => void) | undefined) {
    this.#listener = listener
    this.#again = again
  }

  abort(): void {
    this.#aborted = true
    this.#controller?.abort(new Error('aborted'))
  }

  pause(): void {
    this.#paused = true
    this.#controller?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#controller?.resume()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#aborted) controller.abort(new Error('aborted'))
    else if (this.#paused) controller.pause()
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (this.#aborted || status < 200) return
    this.#started = true
    this.#listener.head(status, downstreamHeaders(headers))
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#aborted) this.#listener.data(chunk)
  }

  onResponseEnd(): void {
    if (!this.#aborted) this.#listener.end()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#aborted) return
    const again = this.#again
    if (again !== undefined && !this.#started && isBrokenConnection(error)) {
      this.#again = undefined
      again()
      return
    }
    this.#listener.error(toAdapterError(error, this.#started))
  }
}

function isBrokenConnection(error: Error): boolean {
  const code = codeOf(error)
  return code === 'ECONNRESET' || code === 'EPIPE' || code === 'UND_ERR_SOCKET'
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function toAdapterError(error: Error, started: boolean): AdapterError {
  const code = codeOf(error)
  const why = code === '' ? error.name : code
  if (code === 'UND_ERR_CONNECT_TIMEOUT') {
    return new AdapterError(
      'ADAPTER_UPSTREAM_TIMEOUT',
      'the upstream server did not accept a connection in time',
      { cause: error },
    )
  }
  if (error.name === 'HTTPParserError' || code.startsWith('HPE_')) {
    return new AdapterError(
      'ADAPTER_UPSTREAM_INVALID',
      `the upstream server's answer is not valid HTTP (${why})`,
      { cause: error },
    )
  }
  const what = started
    ? 'the upstream server cut its answer short'
    : 'the upstream server can not be reached'
  return new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', `${what} (${why})`, { cause: error })
}

/** Names the list type for callers that build one. */
export type { HeaderList }
