/** One `execute`: the script in its sandbox, its tool calls on the way that calls of clients take, and the result of both. */
import type { CoreConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { toolError } from '../adapters/adapter.ts'
import { toAdapterError } from '../exchange/adapter-error.ts'
import { isObject, parseJson } from '../exchange/json-rpc.ts'
import type { InnerAnswer } from './inner-exchange.ts'
import type { InnerRequests } from './inner-requests.ts'
import { callHeaders } from './param-headers.ts'
import { ProducedFiles } from './produced-files.ts'
import type { RunningScript, SandboxPool } from './sandbox-pool.ts'
import type { CallAnswer, Printed, ScriptOutcome } from './sandbox-protocol.ts'

/** Answers of tools may take this share of a script's memory: parsed, they take several times as much. */
const ANSWER_SHARE = 4

interface ScriptRunOptions {
  readonly core: CoreConfig
  readonly pool: SandboxPool
  /** Id of the server whose tools it calls. */
  readonly server: string
  readonly inner: InnerRequests
  readonly owner: string | null
  /** Rejects when the client may not make a request now. */
  readonly ration: () => Promise<void>
  /** Calls at a time; further ones wait for their turn. */
  readonly maxParallelCalls: number
  /** Finds a tool as listed, for the headers that its calls need; undefined where calls need none. */
  readonly definitionOf: ((tool: string) => Promise<JsonObject | undefined>) | undefined
  /** A call has ended; `done` of them by now. */
  readonly onProgress: (done: number, tool: string) => void
}

interface Waiting {
  readonly call: number
  readonly tool: string
  readonly argsJson: string
}

/** See the file comment. */
export class ScriptRun {
  readonly #options: ScriptRunOptions
  readonly #maxAnswerBytes: number
  readonly #files = new ProducedFiles()
  readonly #waiting: Waiting[] = []
  #running: RunningScript | undefined
  #underWay = 0
  #done = 0
  #isOver = false

  constructor(options: ScriptRunOptions) {
    this.#options = options
    const { maxResponseMessageBytes, codeMode } = options.core
    this.#maxAnswerBytes = Math.min(
      maxResponseMessageBytes,
      Math.floor(codeMode.memory / ANSWER_SHARE),
    )
  }

  /** Runs it to the end; resolves with the `CallToolResult`. Never rejects for what the script or its tools did. */
  async run(code: string): Promise<JsonObject> {
    const { core, pool, server, owner, inner } = this.#options
    const { codeMode } = core
    const running = pool.start({
      code,
      server,
      owner,
      timeoutMs: codeMode.timeoutSeconds * 1_000,
      limits: {
        computeMs: codeMode.computeSeconds * 1_000,
        memoryBytes: codeMode.memory,
        maxToolCalls: codeMode.maxToolCalls,
        maxOutputBytes: codeMode.maxOutputBytes,
        maxConsoleBytes: codeMode.maxConsoleBytes,
      },
      onCall: (call, tool, argsJson) => {
        this.#waiting.push({ call, tool, argsJson })
        this.#next()
      },
    })
    if (typeof running === 'string') return toolError(`The script was not started: ${running}.`)
    this.#running = running
    const outcome = await running.outcome
    this.#isOver = true
    // Calls that the script did not wait for are of no use to anybody.
    inner.abort('the script that made this call is over')
    return this.#result(outcome)
  }

  /** Ends it at once, with its calls. */
  kill(why: string): void {
    this.#running?.kill(why)
  }

  #next(): void {
    while (!this.#isOver && this.#underWay < this.#options.maxParallelCalls) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      this.#underWay++
      void this.#call(next)
    }
  }

  async #call({ call, tool, argsJson }: Waiting): Promise<void> {
    const answer = await this.#ask(tool, argsJson).catch((error: unknown): InnerAnswer => ({
      kind: 'none',
      why: toAdapterError(error).message,
    }))
    this.#underWay--
    if (this.#isOver) return
    this.#done++
    this.#running?.answer(call, JSON.stringify(this.#callAnswer(answer)))
    this.#options.onProgress(this.#done, tool)
    this.#next()
  }

  async #ask(tool: string, argsJson: string): Promise<InnerAnswer> {
    const { inner, definitionOf, core, ration } = this.#options
    const bytes = Buffer.from(argsJson)
    const { maxMessageBytes } = core
    if (bytes.byteLength > maxMessageBytes) {
      const why = `the arguments are larger than ${maxMessageBytes} bytes (core.max_message_bytes)`
      return { kind: 'none', why }
    }
    const args = parseJson(bytes)
    if (!isObject(args)) return { kind: 'none', why: 'the arguments of a tool are an object' }
    await ration()
    const definition = await definitionOf?.(tool)
    return inner.ask(
      'tools/call',
      { name: tool, arguments: args },
      { maxBytes: this.#maxAnswerBytes, headers: callHeaders(tool, args, definition) },
    )
  }

  /** What the script sees of an answer. */
  #callAnswer(answer: InnerAnswer): CallAnswer {
    if (answer.kind === 'none') return { error: { message: answer.why } }
    const { result, error } = answer.message
    if (!isObject(result)) {
      const message = isObject(error) ? error['message'] : undefined
      return { error: { message: typeof message === 'string' ? message : 'the call failed' } }
    }
    this.#files.add(result)
    if (result['resultType'] === 'input_required')
      return { error: { message: 'the tool asks for input, which a script can not give', result } }
    return result['isError'] === true
      ? { error: { message: textOf(result) || 'the tool failed', result } }
      : { result }
  }

  #result(outcome: ScriptOutcome): JsonObject {
    const files = this.#files
    const printed = printedText(outcome.printed)
    const rest = [...(printed === '' ? [] : [text(`Printed:\n${printed}`)]), ...files.blocks]
    const meta = files.meta === undefined ? {} : { _meta: files.meta }
    if (outcome.kind === 'error')
      return { content: [text(outcome.text), ...rest], isError: true, ...meta }
    const value: unknown = outcome.json === undefined ? null : JSON.parse(outcome.json)
    const shown =
      typeof value === 'string' ? value : (outcome.json ?? 'The script returned nothing.')
    return {
      content: [text(shown), ...rest],
      structuredContent: {
        result: value,
        ...(printed === '' ? {} : { console: printed }),
        tool_calls: this.#done,
      },
      ...meta,
    }
  }
}

function printedText({ text: lines, isCut }: Printed): string {
  return isCut ? `${lines}${lines === '' ? '' : '\n'}(more was printed and is left out)` : lines
}

function textOf(result: JsonObject): string {
  const content = Array.isArray(result['content']) ? result['content'].filter(isObject) : []
  return content
    .flatMap((block) => (typeof block['text'] === 'string' ? [block['text']] : []))
    .join('\n')
}

function text(line: string): JsonObject {
  return { type: 'text', text: line }
}
