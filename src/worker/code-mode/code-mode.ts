/**
 * Code mode of one server: stands before the ways that requests take, answers for its own tools, and lets everything else pass. What it needs of the
 * upstream it asks for on those same ways, so that whatever is decided there holds for scripts too.
 */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { toolError } from '../adapters/adapter.ts'
import { toAdapterError } from '../exchange/adapter-error.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { fail } from '../exchange/failure.ts'
import { idKey, isObject } from '../exchange/json-rpc.ts'
import type { Envelope, Message } from '../exchange/json-rpc.ts'
import { ClientAnswer } from './client-answer.ts'
import { codeTools, listedInCodeMode } from './code-tools.ts'
import type { CodeToolKind } from './code-tools.ts'
import type { InnerAnswer } from './inner-exchange.ts'
import { InnerRequests } from './inner-requests.ts'
import type { RequestWay } from './inner-requests.ts'
import type { SandboxPool } from './sandbox-pool.ts'
import { ScriptRun } from './script-run.ts'
import { answerFromCatalogue } from './catalogue-answer.ts'
import { readCatalogue } from './tool-catalogue.ts'
import { nameOf } from './tool-listing.ts'

type Request = Extract<Message, { kind: 'request' }>

/** A request of a client that code mode works on. */
interface Task {
  readonly request: Request
  readonly exchange: Exchange
  readonly answer: ClientAnswer
  readonly inner: InnerRequests
  readonly way: RequestWay
  /** Told to the client, where it asked for progress. */
  readonly progress: (message: string) => boolean
  readonly release: () => void
  script: ScriptRun | undefined
  isOver: boolean
}

/** See the file comment. One per worker and server. */
export class CodeMode {
  readonly #config: Config
  readonly #pool: SandboxPool
  readonly #ration: (principal: string) => Promise<void>
  readonly #serverId: string
  readonly #tools: ReadonlyMap<string, CodeToolKind>
  readonly #listed: readonly JsonObject[]
  /** By session and id of the request, for those who cancel. */
  readonly #tasks = new Map<string, Task>()

  /** `ration` counts a call of a script against what its principal may request, and rejects when that is nothing. */
  constructor(
    server: ServerConfig,
    config: Config,
    pool: SandboxPool,
    ration: (principal: string) => Promise<void>,
  ) {
    this.#config = config
    this.#ration = ration
    this.#pool = pool
    this.#serverId = server.id
    this.#tools = codeTools(server)
    this.#listed = listedInCodeMode(server, config)
  }

  /** Answers what is for code mode; false for what is not, which goes its way. */
  take(exchange: Exchange, envelope: Envelope, way: RequestWay): boolean {
    const message = envelope.messages.find((one) => this.#concerns(one))
    if (message === undefined) return this.#cancels(exchange, envelope, way)
    if (envelope.isBatch) {
      const error = new AdapterError(
        'ADAPTER_INVALID_REQUEST',
        'in code mode, tools/list and calls of its tools can not be part of a batch',
      )
      fail(exchange, error, null)
    } else if (message.kind === 'request') this.#answer(exchange, message, way)
    // A call that asks for no answer: nobody would get what came of it.
    else exchange.respond(202, [])
    return true
  }

  /** A session was ended: its scripts end too, and are answered as far as they got. */
  endSession(sessionId: string): void {
    for (const { way, script } of this.#tasks.values()) {
      if (way.owner === sessionId) script?.kill('the session was ended')
    }
  }

  #concerns(message: Message): boolean {
    if (message.kind === 'response') return false
    if (message.method === 'tools/list') return message.kind === 'request'
    return message.method === 'tools/call' && this.#kindOf(message.params) !== undefined
  }

  #kindOf(params: JsonObject | undefined): CodeToolKind | undefined {
    const name = params?.['name']
    return typeof name === 'string' ? this.#tools.get(name) : undefined
  }

  /** A cancellation of what runs here is none of the upstream's business. */
  #cancels(exchange: Exchange, { messages, isBatch }: Envelope, { owner }: RequestWay): boolean {
    // Without a session nobody can say whose a request is; its client cancels it by going away.
    if (owner === null || this.#tasks.size === 0) return false
    let cancelled = 0
    for (const message of messages) {
      if (message.kind !== 'notification' || message.method !== 'notifications/cancelled') continue
      const task = this.#tasks.get(taskKey(owner, message.params?.['requestId']))
      if (task === undefined) continue
      cancelled++
      this.#end(task, 'the client cancelled it')
      task.answer.cancel()
    }
    if (cancelled === 0 || isBatch) return false
    exchange.respond(202, [])
    return true
  }

  #answer(exchange: Exchange, request: Request, way: RequestWay): void {
    if (request.method === 'tools/list') {
      const isStateless = way.owner === null
      const fresh = isStateless ? { ttlMs: 0, cacheScope: 'private' } : {}
      respond(new ClientAnswer(exchange), request, way, { tools: this.#listed, ...fresh })
      return
    }
    const task = this.#open(exchange, request, way)
    this.#serve(task)
      .catch((error: unknown) => {
        if (!task.isOver) fail(exchange, toAdapterError(error), request.id)
      })
      .finally(() => {
        if (!task.isOver) this.#forget(task)
      })
  }

  #open(exchange: Exchange, request: Request, way: RequestWay): Task {
    const answer = new ClientAnswer(exchange)
    const given = request.params?.['_meta']
    const meta = isObject(given) ? given : {}
    const { progressToken } = meta
    let steps = 0
    const progress = (message: string): boolean => {
      if (progressToken === undefined || task.isOver) return true
      const params = { progressToken, progress: ++steps, message }
      return answer.send({ jsonrpc: '2.0', method: 'notifications/progress', params })
    }
    const inner = new InnerRequests({
      way,
      exchange,
      meta,
      onMessage: (message, own) => {
        if (own === undefined) return answer.send(message)
        const said = own['message']
        return progress(typeof said === 'string' ? said : 'a tool is at work')
      },
    })
    const task: Task = {
      request,
      exchange,
      answer,
      inner,
      way,
      progress,
      release: way.hold(),
      script: undefined,
      isOver: false,
    }
    if (way.owner !== null) this.#tasks.set(taskKey(way.owner, request.id), task)
    exchange.onAbort(() => this.#end(task, 'the client went away'))
    return task
  }

  async #serve(task: Task): Promise<void> {
    const { request, answer, way } = task
    const kind = this.#kindOf(request.params)
    const given = request.params?.['arguments'] ?? {}
    const args = isObject(given) ? given : {}
    if (kind === 'execute') {
      const result = await this.#execute(task, args)
      if (!task.isOver) respond(answer, request, way, result)
      return
    }
    const { maxResponseMessageBytes } = this.#config.core
    const catalogue = await readCatalogue(task.inner, maxResponseMessageBytes)
    if (task.isOver) return
    if (catalogue.kind === 'failed') passOn(task, catalogue.answer)
    else respond(answer, request, way, answerFromCatalogue(kind, args, catalogue.tools))
  }

  async #execute(task: Task, args: JsonObject): Promise<JsonObject> {
    const { core, sessions } = this.#config
    const { code } = args
    if (typeof code !== 'string') return toolError('Argument code is missing: the script, as text.')
    if (Buffer.byteLength(code) > core.codeMode.maxCodeBytes) {
      return toolError(
        `The script is larger than ${core.codeMode.maxCodeBytes} bytes (core.code_mode.max_code_bytes).`,
      )
    }
    const { inner, way, exchange } = task
    task.script = new ScriptRun({
      core,
      pool: this.#pool,
      server: this.#serverId,
      inner,
      owner: way.owner,
      ration: () => this.#ration(exchange.request.principal),
      maxParallelCalls: Math.min(
        core.codeMode.maxParallelToolCalls,
        sessions.maxInFlightPerSession ?? Infinity,
      ),
      definitionOf: way.owner === null ? this.#definitions(inner) : undefined,
      onProgress: (done, tool) => void task.progress(`${done} calls done, the last of ${tool}`),
    })
    return task.script.run(code)
  }

  /** Tools as listed, asked for once, when the first is needed. */
  #definitions(inner: InnerRequests): (tool: string) => Promise<JsonObject | undefined> {
    let catalogue: ReturnType<typeof readCatalogue> | undefined
    return async (tool) => {
      catalogue ??= readCatalogue(inner, this.#config.core.maxResponseMessageBytes)
      const read = await catalogue
      return read.kind === 'tools' ? read.tools.find((one) => nameOf(one) === tool) : undefined
    }
  }

  /** Nobody waits for it any more. */
  #end(task: Task, why: string): void {
    if (task.isOver) return
    this.#forget(task)
    task.script?.kill(why)
    task.inner.abort(why)
  }

  #forget(task: Task): void {
    task.isOver = true
    task.release()
    task.answer.abandon()
    const { owner } = task.way
    if (owner === null) return
    const key = taskKey(owner, task.request.id)
    if (this.#tasks.get(key) === task) this.#tasks.delete(key)
  }
}

function taskKey(owner: string, id: unknown): string {
  return `${owner} ${idKey(id)}`
}

function respond(
  answer: ClientAnswer,
  request: Request,
  way: RequestWay,
  result: JsonObject,
): void {
  const complete = way.owner === null ? { ...result, resultType: 'complete' } : result
  answer.finish({ jsonrpc: '2.0', id: request.id, result: complete })
}

/** What kept the tools from being listed, as the client would have got it. */
function passOn({ exchange, request, answer }: Task, failed: InnerAnswer): void {
  if (failed.kind === 'response' && isObject(failed.message['error'])) {
    answer.finish({ ...failed.message, id: request.id }, failed.status)
    return
  }
  const why = failed.kind === 'none' ? failed.why : 'the upstream server lists no tools'
  answer.abandon()
  fail(exchange, new AdapterError('ADAPTER_UPSTREAM_INVALID', why), request.id)
}
