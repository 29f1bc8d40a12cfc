/** Decides what happens to each message of a session: most are forwarded as they are, a few are changed, some are answered here. */
import type { AdapterServices, CallContext } from '../adapters/adapter.ts'
import {
  artifactTemplates,
  listArtifactResources,
  readArtifactResource,
} from '../adapters/artifact-resources.ts'
import { callHelperTool } from '../adapters/helper-tools.ts'
import { prepareToolCall } from '../adapters/tool-calls.ts'
import {
  hasAdapter,
  helperToolName,
  isDisabledTool,
  offersArtifactResources,
  offersHelper,
} from '../catalogue/offered.ts'
import { mergeResourceList, mergeTemplateList, shapeTools } from '../catalogue/shape.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import type { PendingRewrite, Session } from '../session/session.ts'
import { isRooted } from '../session/rooted.ts'
import { isObject, rpcError } from './json-rpc.ts'
import type { Message, RequestId } from './json-rpc.ts'
import { orphanRewrite, strayRewrite } from './orphaned-response.ts'
import { originalId } from './relayed-ids.ts'
import type { ListWatch } from './list-watch.ts'
import type { ToolLists } from './tool-lists.ts'

type Request = Extract<Message, { kind: 'request' }>

/** What is to be done with one message. */
export type Plan =
  | { readonly kind: 'forward' }
  | {
      readonly kind: 'change'
      /** What to send in place of the client's params, where they change. */
      readonly params: JsonObject | undefined
      /** Where the answer has to be looked at. */
      readonly rewrite: PendingRewrite | undefined
    }
  | { readonly kind: 'answer'; readonly response: JsonObject }
  /** Something else in place of a message that is no request. */
  | { readonly kind: 'replace'; readonly value: JsonObject }
  | { readonly kind: 'drop' }

const ROOTS_CHANGED = 'notifications/roots/list_changed'

const FORWARD: Plan = { kind: 'forward' }

/** The plans of one server. One per worker and server. */
export class Planner {
  readonly server: ServerConfig
  readonly #services: AdapterServices
  readonly #helperName: string | null
  /** Whether artifacts are shown as resources, so that the adapter has list changes to tell. */
  readonly hasArtifacts: boolean
  /** Whether the upstream has the session's directory for its root, and the client therefore signed ids of requests to answer. */
  readonly isRooted: boolean
  readonly #toolLists: ToolLists

  constructor(server: ServerConfig, services: AdapterServices, toolLists: ToolLists) {
    this.server = server
    this.#services = services
    this.#helperName = offersHelper(server, services.config) ? helperToolName(server.id) : null
    this.hasArtifacts = offersArtifactResources(server, services.config)
    this.isRooted = isRooted(server)
    this.#toolLists = toolLists
  }

  /** Whether `plan` would do anything but forward. Cheap: it stands in the way of every request. */
  concerns(message: Message, session: Session): boolean {
    if (message.kind === 'response') return this.isRooted
    // A call that asks for no answer is still a call, to an upstream that takes it for one.
    if (message.kind === 'notification')
      return message.method === 'tools/call' || (this.isRooted && message.method === ROOTS_CHANGED)
    switch (message.method) {
      case 'tools/call': {
        const name = message.params?.['name']
        return typeof name === 'string' && (this.wraps(name) || this.#isGuarded(name, session))
      }
      case 'tools/list':
        return this.#toolLists.looksAtTools
      case 'resources/list':
      case 'resources/templates/list':
      case 'resources/read':
      case 'resources/subscribe':
      case 'resources/unsubscribe':
        return this.hasArtifacts
      default:
        return false
    }
  }

  /** Whether lists of tools are compared with what the session was shown first. */
  get pinsTools(): boolean {
    return this.#toolLists.guard.pins
  }

  isDisabled(toolName: string): boolean {
    return isDisabledTool(this.server, toolName)
  }

  /** What a request without a session needs: there are tools to hide or to clean, but none are pinned. */
  statelessRewrite(method: string): PendingRewrite | undefined {
    return method === 'tools/list' ? this.#toolLists.statelessRewrite() : undefined
  }

  /** For lists of tools in an answer to these requests that did not ask for one; undefined where lists do no harm. */
  watch(requests: readonly Pick<Request, 'id' | 'method'>[]): ListWatch | undefined {
    return this.#toolLists.watch(requests)
  }

  /** For a response on a resumed stream whose own rewrite is gone; undefined where none can need one. */
  orphanRewrite(session: Session, received: HeaderList): PendingRewrite | undefined {
    const list = this.#unexpectedList(session, received)
    return orphanRewrite({ server: this.server, key: session.key, services: this.#services, list })
  }

  /** For a response on a stream that is not for responses; undefined where none can do harm. */
  strayRewrite(session: Session, received: HeaderList): PendingRewrite | undefined {
    return strayRewrite(this.#unexpectedList(session, received))
  }

  #unexpectedList(session: Session, received: HeaderList): PendingRewrite | undefined {
    return this.#toolLists.looksAtTools
      ? this.#toolLists.rewrite({ session, received, hasCursor: true })
      : undefined
  }

  /** Whether a tool call needs the adapter, so that it can't just be passed on. */
  wraps(toolName: string): boolean {
    return toolName === this.#helperName || this.#isOurs(toolName)
  }

  /** Plans one message that `concerns` was true for. */
  async plan(
    message: Message,
    session: Session,
    { baseUrl, received }: { readonly baseUrl: string; readonly received: HeaderList },
  ): Promise<Plan> {
    if (message.kind === 'response') return this.#planResponse(message, session)
    if (message.kind === 'notification') {
      // Of roots that the upstream never heard of.
      return message.method === ROOTS_CHANGED ? { kind: 'drop' } : this.#planCallWithoutId(message)
    }
    const context: CallContext = {
      services: this.#services,
      server: this.server,
      key: session.key,
      baseUrl,
    }
    switch (message.method) {
      case 'tools/call':
        return this.#planCall(message, session, context, received)
      case 'tools/list':
        return this.#planToolList(message, session, received)
      case 'resources/list':
        return this.#planList(
          message,
          session,
          'resources',
          mergeResourceList,
          await listArtifactResources(context),
        )
      case 'resources/templates/list':
        return this.#planList(
          message,
          session,
          'resourceTemplates',
          mergeTemplateList,
          artifactTemplates(context),
        )
      case 'resources/read':
        return planRead(message, session, context)
      case 'resources/subscribe':
      case 'resources/unsubscribe':
        return this.#planSubscription(message, context)
      default:
        return FORWARD
    }
  }

  /** Under the id that the upstream gave its request; dropped when the client was not asked. Written anew, so that it says one thing to every reader. */
  #planResponse(message: Extract<Message, { kind: 'response' }>, session: Session): Plan {
    const { id, value } = message
    const original = originalId(id, this.#services.signer, session.key)
    return original === undefined
      ? { kind: 'drop' }
      : { kind: 'replace', value: { ...value, id: original } }
  }

  #isOurs(toolName: string): boolean {
    return hasAdapter(this.server, toolName) || isDisabledTool(this.server, toolName)
  }

  /** Whether a call has to be looked at more closely: it must not be passed on, or that is not known. A look into a map when it may. */
  #isGuarded(toolName: string, session: Session): boolean {
    const { guard } = this.#toolLists
    return guard.blocks && guard.allows(session, toolName) !== true
  }

  /** Nobody would get the outcome, so nothing is prepared for it: a tool that is hidden, or that needs us, is not called at all. */
  #planCallWithoutId(message: Extract<Message, { kind: 'notification' }>): Plan {
    const name = message.params?.['name']
    const isOurs = typeof name === 'string' && (this.wraps(name) || this.#toolLists.guard.blocks)
    return isOurs ? { kind: 'drop' } : FORWARD
  }

  async #planCall(
    message: Request,
    session: Session,
    context: CallContext,
    received: HeaderList,
  ): Promise<Plan> {
    const { params = {} } = message
    const name = String(params['name'])
    if (name === this.#helperName) return answer(message.id, await callHelperTool(context))
    if (isDisabledTool(this.server, name))
      return failure(message.id, -32602, `Unknown tool: ${name}`)
    if (this.#isGuarded(name, session)) {
      const refusal = await this.#toolLists.guard.refusal(session, received, name)
      if (refusal === 'unknown') return failure(message.id, -32602, `Unknown tool: ${name}`)
      if (refusal !== undefined) return { kind: 'answer', response: rpcError(refusal, message.id) }
    }
    const prepared = await prepareToolCall(context, name, params, session.record.protocolVersion)
    if (prepared === undefined) return FORWARD
    if (prepared.kind === 'result') return answer(message.id, prepared.result)
    if (prepared.kind === 'params') {
      return { kind: 'change', params: prepared.params, rewrite: undefined }
    }
    const { call } = prepared
    return {
      kind: 'change',
      params: call.params,
      rewrite: {
        rewrite: async (response) => {
          const result = response['result']
          if (!isObject(result)) {
            await call.abandon()
            return response
          }
          const finished = await call.finish(result)
          if (finished.artifactsChanged && this.hasArtifacts) {
            this.#tellClient(session, 'notifications/resources/list_changed')
          }
          return { ...response, result: finished.result }
        },
        abandon: () => void call.abandon().catch(() => {}),
      },
    }
  }

  /** By the client's own stream, which may be on another replica. */
  #tellClient(session: Session, method: string): void {
    const message = { jsonrpc: '2.0', method }
    if (session.sinks.size > 0) session.notify(message)
    else {
      const { store } = this.#services
      // A hint: one that is lost costs the client a look that it does not take.
      store.announce(session.key, message).catch(() => undefined)
    }
  }

  #planToolList(message: Request, session: Session, received: HeaderList): Plan {
    const { server } = this
    const { config } = this.#services
    if (!session.record.upstreamHas.tools) {
      return answer(
        message.id,
        shapeTools({ tools: [] }, server, config, { addHelper: true }).result,
      )
    }
    const hasCursor = message.params?.['cursor'] !== undefined
    const rewrite = this.#toolLists.rewrite({ session, received, hasCursor })
    return { kind: 'change', params: undefined, rewrite }
  }

  #planList(
    message: Request,
    session: Session,
    field: string,
    merge: (result: JsonObject, added: readonly JsonObject[]) => JsonObject,
    added: readonly JsonObject[],
  ): Plan {
    if (!session.record.upstreamHas.resources)
      return answer(message.id, merge({ [field]: [] }, added))
    return onResult((result) =>
      result['nextCursor'] === undefined ? merge(result, added) : result,
    )
  }

  async #planSubscription(message: Request, context: CallContext): Promise<Plan> {
    const uri = message.params?.['uri']
    if (typeof uri !== 'string' || !uri.startsWith(this.#services.config.artifacts.uriScheme))
      return FORWARD
    const read = await readArtifactResource(context, uri)
    if (read.kind === 'not_ours') return FORWARD
    // An artifact never changes, so there will be nothing to tell.
    return read.kind === 'error'
      ? failure(message.id, read.code, read.message)
      : answer(message.id, {})
  }
}

async function planRead(message: Request, session: Session, context: CallContext): Promise<Plan> {
  const uri = message.params?.['uri']
  if (typeof uri === 'string') {
    const read = await readArtifactResource(context, uri)
    if (read.kind === 'result') return answer(message.id, read.result)
    if (read.kind === 'error') return failure(message.id, read.code, read.message)
  }
  return session.record.upstreamHas.resources
    ? FORWARD
    : failure(message.id, -32002, 'Resource not found')
}

function onResult(shape: (result: JsonObject) => JsonObject): Plan {
  const rewrite: PendingRewrite = {
    rewrite: (response) => {
      const result = response['result']
      return Promise.resolve(isObject(result) ? { ...response, result: shape(result) } : response)
    },
    abandon: () => {},
  }
  return { kind: 'change', params: undefined, rewrite }
}

function answer(id: RequestId, result: JsonObject): Plan {
  return { kind: 'answer', response: { jsonrpc: '2.0', id, result } }
}

function failure(id: RequestId, code: number, message: string): Plan {
  return { kind: 'answer', response: { jsonrpc: '2.0', id, error: { code, message } } }
}
