/** Results of tools as tests look at them, and how to get at them. */
import type { RpcAnswer } from './wire.ts'

/** A `CallToolResult`. */
export interface ToolResult {
  readonly content: readonly {
    readonly type: string
    readonly text?: string
    readonly uri?: string
  }[]
  readonly structuredContent?: {
    readonly result?: unknown
    readonly console?: string
    readonly tool_calls?: number
  }
  readonly isError?: boolean
  readonly _meta?: { readonly artifact?: Artifact; readonly artifacts?: readonly Artifact[] }
}

/** An artifact in `_meta`. */
export interface Artifact {
  readonly artifact_uri: string
  readonly download_url: string
  readonly filename: string
}

/** The text of all its blocks. */
export function textOf(result: ToolResult): string {
  return result.content.map((block) => block.text ?? '').join('\n')
}

/** The result in an answer; throws when there is none. */
export function resultOf(answer: RpcAnswer): ToolResult {
  if (answer.result === undefined) throw new Error(JSON.stringify(answer))
  return answer.result as unknown as ToolResult // of tools/call
}
