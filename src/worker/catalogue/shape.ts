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
import { UnfitToolError } from './schema-text.ts'
import { MAX_PINNED_TOOLS, pinName, pinOf, pinOfBoth } from './tool-pin.ts'
import type { ToolPin, ToolPins } from './tool-pin.ts'
import { cleanTool, limitDescriptions } from './tool-text.ts'

/** A `tools/list` result as clients see it, and what is to be known of it. */
export interface ShapedTools {
  /** The very object that was given when nothing had to change. */
  readonly result: JsonObject
  readonly listing: Listing
  /** Tools whose text was cleaned, or that are not shown for it, with the fields it was in. */
  readonly cleaned: ReadonlyMap<string, readonly string[]>
}

/** What a list, or one page of it, says of its tools; names are those of `pinName`. */
export interface Listing {
  /** Empty where tools are not pinned. */
  readonly pins: ToolPins
  /** Tools that cleaning keeps from the client. */
  readonly hidden: ReadonlySet<string>
  readonly hasNext: boolean
}

/**
 * A `tools/list` result without disabled tools, cleaned, with descriptions as long as the operator wants them, then with guidance on tools that take
 * uploads, and, with `addHelper` (only on the last page), the helper tool at the end. Our own words come last and are not cut: without them a model could
 * not use the tool. The upstream's order and every field that is not ours are kept.
 */
export function shapeTools(
  result: JsonObject,
  server: ServerConfig,
  config: Config,
  options: { readonly addHelper: boolean },
): ShapedTools {
  const listed = result['tools']
  const tools: readonly unknown[] = Array.isArray(listed) ? listed : []
  const helperName = offersHelper(server, config) ? helperToolName(server.id) : null
  const shaper = new ToolShaper(server, config, helperName)
  const shaped = tools.flatMap((tool) => shaper.shape(tool))
  if (options.addHelper && helperName !== null) shaped.push(helperToolDefinition(server, config))
  const isSame =
    shaped.length === tools.length && shaped.every((tool, index) => tool === tools[index])
  return {
    result: isSame || !Array.isArray(listed) ? result : { ...result, tools: shaped },
    listing: {
      pins: shaper.pins,
      hidden: shaper.hidden,
      hasNext: result['nextCursor'] !== undefined,
    },
    cleaned: shaper.cleaned,
  }
}

/** Whether the server's settings can change a list of tools, or have it looked at. */
export function looksAtTools(server: ServerConfig, config: Config): boolean {
  return (
    offersHelper(server, config) ||
    server.disabledTools.length > 0 ||
    server.toolMetadataSanitization.mode !== 'off' ||
    server.toolDescriptionPolicy.mode !== 'preserve' ||
    server.toolDefinitionPinning.mode !== 'off'
  )
}

/** Shapes the tools of one list. */
class ToolShaper {
  readonly pins = new Map<string, ToolPin>()
  readonly hidden = new Set<string>()
  readonly cleaned = new Map<string, readonly string[]>()
  readonly #server: ServerConfig
  readonly #config: Config
  readonly #helperName: string | null

  constructor(server: ServerConfig, config: Config, helperName: string | null) {
    this.#server = server
    this.#config = config
    this.#helperName = helperName
  }

  /** What is shown of a tool: nothing, or one. */
  shape(tool: unknown): readonly unknown[] {
    const name: unknown = isJsonObject(tool) ? tool['name'] : undefined
    if (!isJsonObject(tool) || typeof name !== 'string') return [tool]
    // The adapter's own helper answers calls of that name, so an upstream tool behind it would only mislead.
    if (name === this.#helperName) return []
    const isDisabled = isDisabledTool(this.#server, name)
    try {
      const shown = isDisabled ? undefined : this.#shapeShown(tool, name)
      // A disabled tool is pinned as well: it may be enabled while the session lives.
      const isPinned = isDisabled || shown !== undefined
      if (isPinned && this.#server.toolDefinitionPinning.mode !== 'off') this.#pin(tool, name)
      return shown === undefined ? [] : [shown]
    } catch (error) {
      if (!(error instanceof UnfitToolError)) throw error
      this.#hide(name, [error.message])
      return []
    }
  }

  #shapeShown(tool: JsonObject, name: string): JsonObject | undefined {
    const { toolMetadataSanitization: cleaning, toolDescriptionPolicy: policy } = this.#server
    let shown = tool
    if (cleaning.mode !== 'off') {
      const { tool: clean, fields } = cleanTool(tool, cleaning)
      if (fields.length > 0) this.cleaned.set(name, fields)
      if (fields.length > 0 && cleaning.mode === 'block') {
        this.hidden.add(pinName(name))
        return undefined
      }
      shown = clean
    }
    shown = limitDescriptions(shown, policy)
    return shapeTool(shown, name, this.#server, this.#config, this.#helperName)
  }

  #pin(tool: JsonObject, name: string): void {
    const key = pinName(name)
    const pin = pinOf(tool)
    const other = this.pins.get(key)
    if (other === undefined && this.pins.size >= MAX_PINNED_TOOLS)
      throw new UnfitToolError('too many')
    this.pins.set(key, other === undefined ? pin : pinOfBoth(other, pin))
  }

  #hide(name: string, why: readonly string[]): void {
    this.hidden.add(pinName(name))
    this.cleaned.set(name, why)
  }
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
