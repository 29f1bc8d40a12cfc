/** Shapes what an upstream says of itself — capabilities, tools, resources — into what clients of this adapter see. Pure: raw JSON in, raw JSON out. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'

import { isJsonObject } from '../adapters/dot-path.ts'
import { helperToolDefinition } from '../adapters/helper-tools.ts'
import { withGuidance } from './guidance.ts'
import {
  consumerOf,
  helperToolName,
  isDisabledTool,
  offersArtifactResources,
  offersHelper,
} from './offered.ts'

/**
 * A `tools/list` result without disabled tools, with guidance on tools that take uploads, and, with `addHelper` (only on the last page), the helper
 * tool at the end. The upstream's order and every field that is not ours are kept.
 */
export function shapeToolList(
  result: JsonObject,
  server: ServerConfig,
  config: Config,
  options: { readonly addHelper: boolean },
): JsonObject {
  const tools = result['tools']
  if (!Array.isArray(tools)) return result
  const helperName = offersHelper(server, config) ? helperToolName(server.id) : null
  const shaped: unknown[] = []
  for (const tool of tools) {
    const name: unknown = isJsonObject(tool) ? tool['name'] : undefined
    // The adapter's own helper answers calls of that name, so an upstream tool behind it would only mislead.
    if (typeof name === 'string' && (name === helperName || isDisabledTool(server, name))) continue
    shaped.push(
      isJsonObject(tool) && typeof name === 'string'
        ? shapeTool(tool, name, server, config, helperName)
        : tool,
    )
  }
  if (options.addHelper && helperName !== null) shaped.push(helperToolDefinition(server, config))
  return { ...result, tools: shaped }
}

/** An `initialize` result as the client gets it, and what the upstream itself had declared. */
export interface ShapedInitialize {
  readonly result: JsonObject
  readonly upstreamHas: { readonly tools: boolean; readonly resources: boolean }
}

/** An `initialize` result whose capabilities cover what the adapter adds: `tools` for the helper, `resources` for artifacts. */
export function shapeInitialize(
  result: JsonObject,
  server: ServerConfig,
  config: Config,
): ShapedInitialize {
  const declared = result['capabilities']
  const capabilities = isJsonObject(declared) ? declared : {}
  const { tools, resources } = capabilities
  const upstreamHas = { tools: isJsonObject(tools), resources: isJsonObject(resources) }
  const added: { [name: string]: unknown } = {}
  if (offersHelper(server, config) && !upstreamHas.tools) added['tools'] = {}
  if (offersArtifactResources(server, config)) {
    added['resources'] = { ...(isJsonObject(resources) ? resources : {}), listChanged: true }
  }
  if (Object.keys(added).length === 0) return { result, upstreamHas }
  return { result: { ...result, capabilities: { ...capabilities, ...added } }, upstreamHas }
}

/** A `resources/list` result with the session's artifacts after the upstream's resources. */
export function mergeResourceList(
  result: JsonObject,
  artifacts: readonly JsonObject[],
): JsonObject {
  return append(result, 'resources', artifacts)
}

/** A `resources/templates/list` result with the adapter's templates after the upstream's. */
export function mergeTemplateList(
  result: JsonObject,
  templates: readonly JsonObject[],
): JsonObject {
  return append(result, 'resourceTemplates', templates)
}

function shapeTool(
  tool: JsonObject,
  name: string,
  server: ServerConfig,
  config: Config,
  helperName: string | null,
): JsonObject {
  const consumer = consumerOf(server, config, name)
  if (consumer === undefined) return tool
  const maxWords = server.shortenDescriptions ? server.shortDescriptionMaxTokens : null
  return withGuidance(tool, consumer, { helperName, maxWords })
}

function append(result: JsonObject, field: string, added: readonly JsonObject[]): JsonObject {
  if (added.length === 0) return result
  const listed = result[field]
  return { ...result, [field]: [...(Array.isArray(listed) ? listed : []), ...added] }
}
