/**
 * Traces MCP calls by W3C Trace Context: one span for each POST with a request or a notification, below that of its client and above that of the
 * upstream, whatever is repeated on the way. The context of the message (`_meta`) counts before that of the HTTP headers, which is about the connection.
 */
import type { ServerConfig, TelemetryConfig } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { shortId } from '../../shared/redaction.ts'
import type { Redactor } from '../../shared/redaction.ts'
import type { TelemetryOutbox } from '../../shared/telemetry/outbox.ts'
import type { Attributes, AttributeValue } from '../../shared/telemetry/records.ts'
import {
  formatTraceparent,
  isInShare,
  mintSpanId,
  mintTraceId,
  parseTraceparent,
  parseTracestate,
} from '../../shared/telemetry/trace-context.ts'
import type { TraceParent } from '../../shared/telemetry/trace-context.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Message } from '../exchange/json-rpc.ts'
import { CallSpan } from './call-span.ts'
import { metaContext, withParent } from './meta-context.ts'
import type { Carried, MetaContext } from './meta-context.ts'
import { TracedExchange } from './traced-exchange.ts'

/** What a tracer works with. */
export interface CallTracerOptions {
  readonly traces: Pick<TelemetryConfig['traces'], 'sampleRatio' | 'parentBased'>
  readonly outbox: Pick<TelemetryOutbox, 'span'>
  readonly redactor: Pick<Redactor, 'text'>
}

/** A call on its way. */
export interface TracedCall extends Carried {
  readonly exchange: Exchange
}

/** Where a call comes from. */
interface Origin {
  readonly parent: TraceParent | undefined
  readonly traceState: string | undefined
  readonly meta: MetaContext | undefined
}

/** Methods of all revisions: anything else that a client sends is named `_OTHER`, so that no name is of its making. */
const METHODS: ReadonlySet<string> = new Set([
  'completion/complete',
  'elicitation/create',
  'initialize',
  'logging/setLevel',
  'notifications/cancelled',
  'notifications/initialized',
  'notifications/progress',
  'notifications/roots/list_changed',
  'ping',
  'prompts/get',
  'prompts/list',
  'resources/list',
  'resources/read',
  'resources/subscribe',
  'resources/templates/list',
  'resources/unsubscribe',
  'server/discover',
  'subscriptions/listen',
  'tasks/cancel',
  'tasks/get',
  'tasks/list',
  'tasks/result',
  'tools/call',
  'tools/list',
])
/** Most characters of an attribute that a client chose. */
const MAX_CHARS = 128
/** Most characters of it that are looked at. */
const MAX_REDACTED_CHARS = 4_096

/** See the file comment. One per worker. */
export class CallTracer {
  readonly #options: CallTracerOptions

  constructor(options: CallTracerOptions) {
    this.#options = options
  }

  /** Puts a call into its trace; answers the same call when there is nothing to do. */
  trace(call: TracedCall, server: ServerConfig): TracedCall {
    const { exchange, envelope } = call
    const message = envelope.messages.find(({ kind }) => kind !== 'response')
    if (message === undefined || message.kind === 'response') return call
    const received = exchange.request.headers
    const origin = originOf(received, envelope.isBatch ? undefined : metaContext(message))
    const traceId = origin.parent?.traceId ?? mintTraceId()
    const isSampled = this.#samples(traceId, origin.parent)
    // As it came: it says already that nobody records it.
    if (!isSampled && origin.parent?.isSampled === false) return call
    const place = { traceId, spanId: mintSpanId(), isSampled }
    const carried =
      origin.meta === undefined
        ? { envelope, body: call.body }
        : withParent({ envelope, body: call.body }, origin.meta, place)
    const headers = headersFor(received, place, origin.traceState)
    const span = isSampled
      ? this.#span(place, origin, {
          attributes: this.#attributes(exchange, message, server, envelope.isBatch),
          name: spanName(message, server, envelope.isBatch),
        })
      : undefined
    const request = { ...exchange.request, headers, body: carried.body }
    return { ...carried, exchange: new TracedExchange(exchange, request, span) }
  }

  #samples(traceId: string, parent: TraceParent | undefined): boolean {
    const { sampleRatio, parentBased } = this.#options.traces
    if (parent !== undefined && parentBased) return parent.isSampled
    return isInShare(traceId, sampleRatio)
  }

  #span(
    place: TraceParent,
    { parent, traceState }: Origin,
    { name, attributes }: { readonly name: string; readonly attributes: Attributes },
  ): CallSpan {
    const { outbox } = this.#options
    return new CallSpan({
      place,
      parentSpanId: parent?.spanId,
      traceState,
      name,
      attributes,
      onEnd: (entry) => outbox.span(entry),
    })
  }

  #attributes(
    { request }: Exchange,
    message: Exclude<Message, { kind: 'response' }>,
    server: ServerConfig,
    isBatch: boolean,
  ): Attributes {
    const attributes: Record<string, AttributeValue> = {
      'adapter.server_id': server.id,
      'network.protocol.name': 'http',
      'network.transport': 'tcp',
    }
    if (request.correlationId !== undefined)
      attributes['adapter.request_id'] = this.#bounded(request.correlationId)
    const sessionId = headerValue(request.headers, 'mcp-session-id')
    if (sessionId !== undefined) attributes['mcp.session.id'] = shortId(sessionId)
    const version = headerValue(request.headers, 'mcp-protocol-version')
    if (version !== undefined) attributes['mcp.protocol.version'] = this.#bounded(version)
    if (isBatch) return attributes
    attributes['mcp.method.name'] = methodName(message)
    if (message.kind === 'request')
      attributes['jsonrpc.request.id'] = this.#bounded(String(message.id))
    const name = message.params?.['name']
    if (typeof name !== 'string') return attributes
    if (message.method === 'tools/call') {
      attributes['gen_ai.tool.name'] = this.#bounded(name)
      attributes['gen_ai.operation.name'] = 'execute_tool'
    } else if (message.method === 'prompts/get')
      attributes['gen_ai.prompt.name'] = this.#bounded(name)
    return attributes
  }

  /** Text of a client's. */
  #bounded(text: string): string {
    // Cut after redaction, so that no part of a secret stays.
    return this.#options.redactor.text(text.slice(0, MAX_REDACTED_CHARS)).slice(0, MAX_CHARS)
  }
}

/** Without a context, or with a malformed one, a trace begins here. */
function originOf(received: HeaderList, meta: MetaContext | undefined): Origin {
  if (meta !== undefined) return { parent: meta.parent, traceState: meta.traceState, meta }
  const parent = parseTraceparent(onlyValue(received, 'traceparent'))
  if (parent === undefined) return { parent, traceState: undefined, meta }
  const states = valuesOf(received, 'tracestate')
  // W3C Trace Context §3.3.1: several headers are one list.
  return {
    parent,
    traceState: states.length === 0 ? undefined : parseTracestate(states.join(',')),
    meta,
  }
}

function headersFor(
  received: HeaderList,
  place: TraceParent,
  traceState: string | undefined,
): HeaderList {
  const headers: string[] = []
  for (let i = 0; i + 1 < received.length; i += 2) {
    const name = received[i] ?? ''
    if (name !== 'traceparent' && name !== 'tracestate') headers.push(name, received[i + 1] ?? '')
  }
  headers.push('traceparent', formatTraceparent(place))
  if (traceState !== undefined) headers.push('tracestate', traceState)
  return headers
}

/** Of a header that may come once only: undefined when it comes twice. */
function onlyValue(headers: HeaderList, name: string): string | undefined {
  const [value, ...others] = valuesOf(headers, name)
  return others.length === 0 ? value : undefined
}

function valuesOf(headers: HeaderList, name: string): readonly string[] {
  return headers.filter((_, index) => index % 2 === 1 && headers[index - 1] === name)
}

/** Names are few: of tools, only those that the configuration names. */
function spanName(
  message: Exclude<Message, { kind: 'response' }>,
  server: ServerConfig,
  isBatch: boolean,
): string {
  if (isBatch) return 'batch'
  const method = methodName(message)
  const tool = method === 'tools/call' ? message.params?.['name'] : undefined
  const isConfigured =
    typeof tool === 'string' && server.adapters.some(({ tools }) => tools.includes(tool))
  return isConfigured ? `${method} ${tool}` : method
}

function methodName({ method }: { readonly method: string }): string {
  return METHODS.has(method) ? method : '_OTHER'
}
