/** Requests of the era without sessions (from revision 2026-07-28): passed through, but for what the operator hid. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { CallMetrics } from '../metrics/call-metrics.ts'
import { upstreamHeaders } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { idKey } from './json-rpc.ts'
import { callTimeoutMs } from './call-timeout.ts'
import { answerEndedStream } from './ended-stream.ts'
import type { Exchange } from './exchange.ts'
import { fail } from './failure.ts'
import { ForwardedPost } from './forwarded-post.ts'
import type { Message } from './json-rpc.ts'
import type { Planner } from './plan.ts'
import { SAFE_METHODS } from './safe-methods.ts'

/** See the file comment. One per worker and server. */
export class StatelessPosts {
  readonly #planner: Planner
  readonly #options: {
    readonly server: ServerConfig
    readonly config: Config
    readonly upstream: Upstream
    readonly calls: CallMetrics
  }
  readonly #listens = new Set<Exchange>()
  #isLeaving = false

  constructor(
    planner: Planner,
    options: {
      readonly server: ServerConfig
      readonly config: Config
      readonly upstream: Upstream
      readonly calls: CallMetrics
    },
  ) {
    this.#planner = planner
    this.#options = options
  }

  /** Ends the streams of `subscriptions/listen`, so that their clients go elsewhere. */
  closeListens(): void {
    this.#isLeaving = true
    for (const exchange of this.#listens) exchange.end()
  }

  take(exchange: Exchange, message: Message, body: Uint8Array | string): void {
    const { server, upstream, config } = this.#options
    const requests = message.kind === 'request' ? [message] : []
    const [request] = requests
    const name = calledTool(message)
    if (name !== undefined && this.#planner.isDisabled(name)) {
      refuseDisabled(exchange, message, name)
      return
    }
    if (name !== undefined && this.#planner.wraps(name) && request === undefined) {
      exchange.respond(202, [])
      return
    }
    if (name !== undefined && this.#planner.wraps(name)) {
      const error = new AdapterError(
        'ADAPTER_ERA_UNSUPPORTED',
        `tool ${name} moves files through this gateway, which it can do only in a session so far: connect with revision 2025-11-25`,
      )
      fail(exchange, error, request?.id ?? null)
      return
    }
    const rewrite =
      request === undefined ? undefined : this.#planner.statelessRewrite(request.method)
    const isListen = request?.method === 'subscriptions/listen'
    if (isListen && this.#isLeaving) {
      answerEndedStream(exchange)
      return
    }
    if (isListen) this.#listens.add(exchange)
    const counted = this.#options.calls.begin(requests)
    new ForwardedPost({
      exchange,
      server,
      upstream,
      body,
      headers: () => upstreamHeaders(exchange.request.headers, server, null),
      requestIds: requests.map(({ id }) => id),
      isSafe: request !== undefined && SAFE_METHODS.has(request.method),
      rewrites: new Map(
        rewrite === undefined || request === undefined ? [] : [[idKey(request.id), rewrite]],
      ),
      locals: [],
      watch: this.#planner.watch(requests),
      maxResponseBytes: config.core.maxResponseMessageBytes,
      timeoutMs: callTimeoutMs(server, requests),
      recover: undefined,
      recoveries: 0,
      // Cutting the connection is how this revision cancels.
      onTimeout: () => {},
      suspend: undefined,
      done: (outcome) => {
        this.#listens.delete(exchange)
        counted?.(outcome)
      },
    }).start()
  }
}

/** The tool that a message calls, as a request or (which no client should) as a notification. */
function calledTool(message: Message): string | undefined {
  if (message.kind === 'response' || message.method !== 'tools/call') return undefined
  const name = message.params?.['name']
  return typeof name === 'string' ? name : undefined
}

/** As an upstream answers for a tool that it does not have; a notification gets no answer. */
function refuseDisabled(exchange: Exchange, message: Message, name: string): void {
  if (message.kind !== 'request') {
    exchange.respond(202, [])
    return
  }
  const error = { code: -32602, message: `Unknown tool: ${name}` }
  exchange.respond(
    200,
    ['content-type', 'application/json'],
    JSON.stringify({ jsonrpc: '2.0', id: message.id, error }),
  )
}
