/** The tools that clients see in code mode: their names and definitions, functions of the configuration only. */
import { helperToolDefinition } from '../adapters/helper-tools.ts'
import { isDisabledTool, offersHelper, toolPrefix } from '../catalogue/offered.ts'
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'

/** How much `search` and `get_schema` say of a tool. */
export const DETAILS = ['brief', 'detailed', 'full'] as const
export type Detail = (typeof DETAILS)[number]

export type CodeToolKind = 'search' | 'get_schema' | 'execute'

/** Most tools that `search` shows unless it is asked for another number. */
export const SEARCH_LIMIT = 10

/** The kinds that a server offers, by the names of their tools: those that `disabled_tools` names are neither shown nor served. */
export function codeTools(server: ServerConfig): ReadonlyMap<string, CodeToolKind> {
  const kinds: readonly CodeToolKind[] = ['search', 'get_schema', 'execute']
  const named = kinds.map((kind) => [`${toolPrefix(server.id)}_${kind}`, kind] as const)
  return new Map(named.filter(([name]) => !isDisabledTool(server, name)))
}

/** The whole of `tools/list` in code mode: these tools, and the one that hands out upload URLs, which clients need before there is a handle to pass. */
export function listedInCodeMode(server: ServerConfig, config: Config): readonly JsonObject[] {
  const prefix = toolPrefix(server.id)
  const listed = [...codeTools(server)].map(([name, kind]) =>
    Object.assign({ name }, definitionOf(kind, prefix, config)),
  )
  return offersHelper(server, config) ? [...listed, helperToolDefinition(server, config)] : listed
}

function definitionOf(kind: CodeToolKind, prefix: string, config: Config): JsonObject {
  switch (kind) {
    case 'search':
      return {
        title: 'Search Tools',
        description:
          'Finds tools of this server by words. Without a query it lists them all. The tools are called from a script: ' +
          `look up their arguments with ${prefix}_get_schema, then run a script with ${prefix}_execute.`,
        inputSchema: {
          type: 'object',
          properties: {
            query: { type: 'string', description: 'Words that say what the tool should do.' },
            tags: {
              type: 'array',
              items: { type: 'string' },
              description: 'Only tools that have one of these tags.',
            },
            detail: detailSchema('brief'),
            limit: {
              type: 'integer',
              minimum: 1,
              description: `Most tools to show; ${SEARCH_LIMIT} for a query, else all.`,
            },
          },
          additionalProperties: false,
        },
        annotations: READS,
      }
    case 'get_schema':
      return {
        title: 'Get Tool Schemas',
        description: 'Says of tools of this server which arguments they take and what they return.',
        inputSchema: {
          type: 'object',
          properties: {
            tools: {
              type: 'array',
              items: { type: 'string' },
              minItems: 1,
              description: 'Names of tools.',
            },
            detail: detailSchema('detailed'),
          },
          required: ['tools'],
          additionalProperties: false,
        },
        annotations: READS,
      }
    case 'execute':
      return {
        title: 'Execute Script',
        description: executeDescription(prefix, config),
        inputSchema: {
          type: 'object',
          properties: {
            code: {
              type: 'string',
              description:
                'JavaScript: the body of an async function. Its return value is the result.',
            },
          },
          required: ['code'],
          additionalProperties: false,
        },
      }
  }
}

const READS = { readOnlyHint: true, idempotentHint: true, openWorldHint: false }

function detailSchema(byDefault: Detail): JsonObject {
  return {
    type: 'string',
    enum: DETAILS,
    default: byDefault,
    description:
      'brief: name and description; detailed: with the arguments; full: the definition as JSON.',
  }
}

function executeDescription(prefix: string, { core: { codeMode } }: Config): string {
  return [
    'Runs a JavaScript script that calls tools of this server, so that many calls and whatever is done with their results take one step. ' +
      'The script is the body of an async function; what it returns (as JSON) is the result, and what it prints with console.log is shown too.',
    'await callTool(name, args) calls a tool and resolves with its result: ' +
      '{ content: [{ type: "text", text }, …], structuredContent, _meta }. It throws a ToolError (message, result) when the tool fails.',
    'Calls can run at once: await Promise.all([…]). Calls that are not awaited are given up at the end.',
    'Files are handles: pass upload handles as arguments. Files that tools made are in result._meta.artifact and are attached to the result of the script.',
    `There is nothing else: no modules, no network, no files, no timers. Limits: ${codeMode.maxToolCalls} calls, ` +
      `${codeMode.computeSeconds} s of computing, ${codeMode.timeoutSeconds} s in all, ${codeMode.maxOutputBytes} bytes of result.`,
    `Find tools with ${prefix}_search and their arguments with ${prefix}_get_schema first.`,
    `Example: const r = await callTool("some_tool", { path: "a" }); return r.structuredContent ?? r.content[0].text`,
  ].join('\n')
}
