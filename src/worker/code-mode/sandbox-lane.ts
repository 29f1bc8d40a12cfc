/** One sandbox thread, seen from the worker: hands it a script and its answers, and kills it when it does not stop by itself. */
import { Worker } from 'node:worker_threads'

import type { FromSandbox, ScriptLimits, ScriptOutcome, ToSandbox } from './sandbox-protocol.ts'

/** A compiled name: this is no import that the compiler would rewrite. */
const THREAD = new URL('./sandbox-thread.js', import.meta.url)
/** What passes through the thread on its way in and out, in MiB: its scripts have memory of their own, outside this. */
const HEAP_MB = 192
/** Longer than a script may compute, in milliseconds: the engine looks at the clock often, but not inside each of its own functions. */
const KILL_AFTER_MS = 1_000
/** A thread that does not begin within this time is given up, in milliseconds. */
const START_MS = 30_000
const NOTHING_PRINTED = { text: '', isCut: false }

/** What a lane does for the script that it runs. */
interface LaneScript {
  readonly limits: ScriptLimits
  readonly onCall: (call: number, tool: string, argsJson: string) => void
  readonly onDone: (outcome: ScriptOutcome) => void
}

/** See the file comment. Takes one script at a time. */
export class SandboxLane {
  /** Settles when the thread is gone, for whatever reason. */
  readonly ended: Promise<void>
  /** Scripts that were run here. */
  runs = 0
  readonly #thread: Worker
  #script: LaneScript | undefined
  #watchdog: NodeJS.Timeout | undefined
  #isOver = false

  constructor() {
    // Nothing of the process: no environment (it has secrets), no arguments, no input.
    this.#thread = new Worker(THREAD, {
      env: {},
      argv: [],
      execArgv: [],
      stdin: false,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: 16 },
    })
    // A thread without a script keeps no process alive.
    this.#thread.unref()
    this.#thread.on('message', (message: FromSandbox) => this.#receive(message))
    this.#thread.on('error', () => this.#fail('the script made its sandbox fail'))
    this.ended = new Promise((resolve) => {
      this.#thread.once('exit', () => {
        this.#fail('the sandbox of the script ended')
        resolve()
      })
    })
  }

  get isOver(): boolean {
    return this.#isOver
  }

  run(code: string, script: LaneScript): void {
    this.runs++
    this.#script = script
    this.#thread.ref()
    this.#watch(START_MS, 'the sandbox of the script did not start')
    this.#send(['run', code, script.limits])
  }

  answer(call: number, json: string): void {
    if (this.#script === undefined) return
    this.#watchComputing(this.#script)
    this.#send(['answer', call, json])
  }

  /** Ends the thread at once, whatever it does; its script ends with this text. */
  async kill(why: string): Promise<void> {
    this.#fail(why)
    await this.#thread.terminate()
  }

  /** Ends the thread when it is idle. */
  retire(): void {
    this.#isOver = true
    this.#send(['stop'])
  }

  #watchComputing({ limits: { computeMs } }: LaneScript): void {
    this.#watch(
      computeMs + KILL_AFTER_MS,
      `the script computed for more than ${computeMs / 1_000} s (core.code_mode.compute_seconds)`,
    )
  }

  #watch(limitMs: number, why: string): void {
    clearTimeout(this.#watchdog)
    const watchdog = setTimeout(() => {
      // When this event loop was held up itself, a message that says otherwise may be there already.
      setImmediate(() => {
        if (this.#watchdog === watchdog) void this.kill(why)
      })
    }, limitMs)
    this.#watchdog = watchdog
  }

  #rest(): void {
    clearTimeout(this.#watchdog)
    this.#watchdog = undefined
  }

  #send(message: ToSandbox): void {
    this.#thread.postMessage(message)
  }

  #receive(message: FromSandbox): void {
    const script = this.#script
    if (script === undefined) return
    switch (message[0]) {
      case 'call':
        script.onCall(message[1], message[2], message[3])
        return
      case 'begun':
        this.#watchComputing(script)
        return
      case 'idle':
        this.#rest()
        return
      case 'done':
        this.#end(script, message[1])
    }
  }

  #fail(why: string): void {
    this.#isOver = true
    const script = this.#script
    if (script === undefined) return
    this.#end(script, { kind: 'error', text: `Error: ${why}`, printed: NOTHING_PRINTED })
  }

  #end(script: LaneScript, outcome: ScriptOutcome): void {
    this.#rest()
    this.#script = undefined
    this.#thread.unref()
    script.onDone(outcome)
  }
}
