/** What a sandbox thread and the worker that started it say to each other about the one script that runs there. */

/** What one script may use up. */
export interface ScriptLimits {
  /** Time in which the script computes, in milliseconds. */
  readonly computeMs: number
  readonly memoryBytes: number
  readonly maxToolCalls: number
  readonly maxOutputBytes: number
  readonly maxConsoleBytes: number
}

/** What a script printed, as far as it was kept. */
export interface Printed {
  readonly text: string
  /** Whether there was more. */
  readonly isCut: boolean
}

/** How a script ended: with a value, as JSON (undefined when it returned none), or with what went wrong, for the model to read. */
export type ScriptOutcome =
  | { readonly kind: 'value'; readonly json: string | undefined; readonly printed: Printed }
  | { readonly kind: 'error'; readonly text: string; readonly printed: Printed }

/** To the thread. `answer` settles the call of that number with the JSON text of a `CallAnswer`. */
export type ToSandbox =
  | readonly ['run', code: string, limits: ScriptLimits]
  | readonly ['answer', call: number, json: string]
  | readonly ['stop']

/** From the thread. `begun` says that the script starts to compute, `idle` that it has done all it can do before the next answer. */
export type FromSandbox =
  | readonly ['begun']
  | readonly ['call', call: number, tool: string, argsJson: string]
  | readonly ['idle']
  | readonly ['done', outcome: ScriptOutcome]

/** What a tool call in a script comes to: what `callTool` resolves with, or what it throws. */
export type CallAnswer =
  | { readonly result: unknown }
  | { readonly error: { readonly message: string; readonly result?: unknown } }
