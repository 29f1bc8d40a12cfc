/**
 * One script in QuickJS, in a WebAssembly instance of its own: it has no memory, no globals and no functions of the host but the two it is handed.
 * Nothing is freed piece by piece: the instance goes when the script is over, and all it held with it.
 */
import untypedVariant from '@jitl/quickjs-wasmfile-release-sync'
import { newQuickJSWASMModuleFromVariant, newVariant } from 'quickjs-emscripten-core'
import type {
  QuickJSContext,
  QuickJSDeferredPromise,
  QuickJSHandle,
  QuickJSRuntime,
  QuickJSSyncVariant,
} from 'quickjs-emscripten-core'

import { PRELUDE } from './sandbox-prelude.ts'
import type { Printed, ScriptLimits, ScriptOutcome } from './sandbox-protocol.ts'
import { SCRIPT_NAME, scriptError } from './script-error.ts'

// The package is a module of both kinds, and its types are those of the other kind: this is its default export.
const releaseVariant = untypedVariant as unknown as QuickJSSyncVariant

const PAGE_BYTES = 65_536
/** The build asks for so many pages at first, and allows so many at most. */
const FIRST_PAGES = 256
const MOST_PAGES = 32_768
/** Of the stack that the build has; the thread's own has to hold as many frames. */
const STACK_BYTES = 128 * 1024
/** Jobs (continuations of promises) between two looks at the clock. */
const JOBS_AT_A_TIME = 500
/** Longest error with its stack that is looked at, in bytes. */
const MAX_DESCRIPTION_BYTES = 1_048_576

/** Starts the call of a tool; its answer comes by `Sandbox.answer`. */
export type OnCall = (call: number, tool: string, argsJson: string) => void

/** See the file comment. Synchronous: `run` and `answer` return when there is nothing left to do before the next answer. */
export class Sandbox {
  readonly #limits: ScriptLimits
  readonly #onCall: OnCall
  readonly #runtime: QuickJSRuntime
  readonly #context: QuickJSContext
  readonly #pending = new Map<number, QuickJSDeferredPromise>()
  #prelude: { readonly toJson: QuickJSHandle; readonly describe: QuickJSHandle } | undefined
  #script: QuickJSHandle | undefined
  #calls = 0
  #printed: string[] = []
  #printedBytes = 0
  #isPrintCut = false
  /** Computing time of the turns before, in milliseconds. */
  #computedMs = 0
  #turnBeganAtMs = 0
  #isOverTime = false
  #outcome: ScriptOutcome | undefined

  private constructor(runtime: QuickJSRuntime, limits: ScriptLimits, onCall: OnCall) {
    this.#runtime = runtime
    this.#limits = limits
    this.#onCall = onCall
    this.#context = runtime.newContext()
    runtime.setInterruptHandler(() => {
      this.#isOverTime ||= this.#elapsedMs() > limits.computeMs
      return this.#isOverTime
    })
  }

  /** Makes an instance of the compiled module (`./wasm` of the package). */
  static async open(
    wasmModule: WebAssembly.Module,
    limits: ScriptLimits,
    onCall: OnCall,
  ): Promise<Sandbox> {
    const pages = FIRST_PAGES + Math.ceil(limits.memoryBytes / PAGE_BYTES)
    const wasmMemory = new WebAssembly.Memory({
      initial: FIRST_PAGES,
      maximum: Math.min(pages, MOST_PAGES),
    })
    const quickJs = await newQuickJSWASMModuleFromVariant(
      newVariant(releaseVariant, { wasmModule, wasmMemory }),
    )
    const runtime = quickJs.newRuntime({
      memoryLimitBytes: limits.memoryBytes,
      maxStackSizeBytes: STACK_BYTES,
    })
    return new Sandbox(runtime, limits, onCall)
  }

  /** How the script ended; undefined while it waits for an answer. */
  get outcome(): ScriptOutcome | undefined {
    return this.#outcome
  }

  run(code: string): void {
    this.#turn(() => {
      this.#openPrelude()
      // On the first line, so that the lines of the script keep their numbers.
      const evaluated = this.#context.evalCode(`(async () => {${code}\n})()`, SCRIPT_NAME, {
        strict: true,
      })
      if (evaluated.error === undefined) this.#script = evaluated.value
      else this.#fail(this.#describe(evaluated.error))
    })
  }

  /** Settles a call; `json` is the text of a `CallAnswer`. */
  answer(call: number, json: string): void {
    const deferred = this.#pending.get(call)
    if (deferred === undefined || this.#outcome !== undefined) return
    this.#pending.delete(call)
    this.#turn(() => {
      const text = this.#context.newString(json)
      deferred.resolve(text)
      text.dispose()
      deferred.dispose()
    })
  }

  /** One stretch of computing, counted and limited; whatever goes wrong in it is the script's failure. */
  #turn(step: () => void): void {
    this.#turnBeganAtMs = performance.now()
    try {
      step()
      if (this.#outcome === undefined) this.#runJobs()
      if (this.#outcome === undefined && !this.#isOverTime) this.#look()
    } catch (error) {
      // The thread's own stack ran out under the engine's, or the engine gave up: the instance is of no use any more.
      this.#fail(
        error instanceof RangeError
          ? 'InternalError: stack overflow'
          : 'InternalError: the script made its engine fail',
      )
    }
    if (this.#isOverTime) this.#failOverTime()
    this.#computedMs = this.#elapsedMs()
  }

  #runJobs(): void {
    for (;;) {
      const ran = this.#runtime.executePendingJobs(JOBS_AT_A_TIME)
      if (ran.error !== undefined) {
        ran.error.dispose()
        if (this.#isOverTime) return
        continue
      }
      if (ran.value === 0) return
      this.#isOverTime ||= this.#elapsedMs() > this.#limits.computeMs
      if (this.#isOverTime) return
    }
  }

  /** Whether the script is over. */
  #look(): void {
    const script = this.#script
    if (script === undefined) return
    const state = this.#context.getPromiseState(script)
    switch (state.type) {
      case 'fulfilled':
        this.#succeed(state.value)
        return
      case 'rejected':
        this.#fail(this.#describe(state.error))
        return
      case 'pending':
        if (this.#pending.size === 0)
          this.#fail('Error: the script waits for something that will never come')
    }
  }

  #succeed(value: QuickJSHandle): void {
    const toJson = this.#prelude?.toJson
    if (toJson === undefined) return
    const made = this.#context.callFunction(toJson, this.#context.undefined, value)
    if (made.error !== undefined) {
      this.#fail(`The returned value is no JSON: ${this.#describe(made.error)}`)
      return
    }
    const { maxOutputBytes } = this.#limits
    const json = this.#textOf(made.value, maxOutputBytes)
    if (json === null) {
      this.#fail(
        `Error: the returned value is larger than ${maxOutputBytes} bytes (core.code_mode.max_output_bytes): return less, such as a count, a selection or a summary`,
      )
      return
    }
    this.#outcome = { kind: 'value', json, printed: this.#whatWasPrinted() }
  }

  #openPrelude(): void {
    const context = this.#context
    const make = context.unwrapResult(context.evalCode(PRELUDE, 'prelude.js'))
    const call = context.newFunction('call', (tool, args) => this.#call(tool, args))
    const print = context.newFunction('print', (line) => {
      this.#print(this.#textOf(line, this.#limits.maxConsoleBytes))
    })
    const made = context.unwrapResult(context.callFunction(make, context.undefined, call, print))
    this.#prelude = {
      toJson: context.getProp(made, 'toJson'),
      describe: context.getProp(made, 'describe'),
    }
  }

  #call(tool: QuickJSHandle, args: QuickJSHandle): QuickJSHandle {
    const { maxToolCalls } = this.#limits
    if (this.#calls >= maxToolCalls) {
      throw new RangeError(
        `a script may make ${maxToolCalls} tool calls (core.code_mode.max_tool_calls)`,
      )
    }
    const call = this.#calls++
    const deferred = this.#context.newPromise()
    this.#pending.set(call, deferred)
    this.#onCall(call, this.#context.getString(tool), this.#context.getString(args))
    return deferred.handle
  }

  #print(line: string | null | undefined): void {
    if (line === undefined) return
    const bytes = line === null ? Infinity : Buffer.byteLength(line) + 1
    if (line === null || this.#printedBytes + bytes > this.#limits.maxConsoleBytes) {
      this.#isPrintCut = true
      return
    }
    this.#printed.push(line)
    this.#printedBytes += bytes
  }

  /** The text of a handle; undefined when it is no string, null (and not copied) when it is longer than `max` bytes. */
  #textOf(handle: QuickJSHandle, max: number): string | null | undefined {
    const context = this.#context
    if (context.typeof(handle) !== 'string') return undefined
    const length = context.getProp(handle, 'length').consume((one) => context.getNumber(one))
    if (length > max) return null
    const text = context.getString(handle)
    return Buffer.byteLength(text) > max ? null : text
  }

  /** An error as the prelude describes it. Runs code of the script (getters), so it is part of a turn. */
  #describe(error: QuickJSHandle): string {
    const describe = this.#prelude?.describe
    if (describe === undefined) return 'Error: the script could not be started'
    const described = this.#context.callFunction(describe, this.#context.undefined, error)
    if (described.error !== undefined) return 'Error: the script threw something that has no text'
    return this.#textOf(described.value, MAX_DESCRIPTION_BYTES) ?? 'Error: a very long one'
  }

  #fail(described: string): void {
    this.#outcome = {
      kind: 'error',
      text: scriptError(described),
      printed: this.#whatWasPrinted(),
    }
  }

  #failOverTime(): void {
    this.#fail(
      `Error: the script computed for more than ${this.#limits.computeMs / 1_000} s (core.code_mode.compute_seconds)`,
    )
  }

  #whatWasPrinted(): Printed {
    return { text: this.#printed.join('\n'), isCut: this.#isPrintCut }
  }

  #elapsedMs(): number {
    return this.#computedMs + performance.now() - this.#turnBeganAtMs
  }
}
