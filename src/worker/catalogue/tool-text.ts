/** What operators have done to the text in tool definitions: cleaning (`tool_metadata_sanitization`) and length (`tool_description_policy`). Pure. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'

import { isJsonObject } from '../adapters/dot-path.ts'
import { editSchemaText } from './schema-text.ts'
import type { TextEdit } from './schema-text.ts'
import { capped, cleanText } from './visible-text.ts'

/** A cleaned definition. */
export interface CleanedTool {
  readonly tool: JsonObject
  /** The fields that changed; empty when `tool` is what was given. */
  readonly fields: readonly string[]
}

/**
 * Cleans titles and descriptions, those in schemas included. Names, enums, constants, defaults, examples, icons and `_meta` stay: calls depend on them, or
 * models don't see them. Throws `UnfitToolError`.
 */
export function cleanTool(
  tool: JsonObject,
  policy: ServerConfig['toolMetadataSanitization'],
): CleanedTool {
  const { normalizeUnicode, removeInvisibleCharacters } = policy
  const rules = { normalizeUnicode, removeInvisibleCharacters }
  const title = { ...rules, maxChars: policy.maxToolTitleChars }
  const description = { ...rules, maxChars: policy.maxToolDescriptionChars }
  const inSchemas = { ...rules, maxChars: policy.maxSchemaTextChars }
  const clean: TextEdit = (text) => cleanText(text, inSchemas)
  const { annotations } = tool
  const next = {
    title: ofText(tool['title'], (text) => cleanText(text, title)),
    description: ofText(tool['description'], (text) => cleanText(text, description)),
    annotations: isJsonObject(annotations)
      ? withFields(annotations, {
          title: ofText(annotations['title'], (text) => cleanText(text, title)),
        })
      : annotations,
    inputSchema: editSchemaText(tool['inputSchema'], clean),
    outputSchema: editSchemaText(tool['outputSchema'], clean),
  }
  const fields = Object.entries(next)
    .filter(([name, value]) => value !== tool[name])
    .map(([name]) => name)
  return { tool: withFields(tool, next), fields }
}

/** Cuts or takes out descriptions, those in schemas included; titles stay. Throws `UnfitToolError`. */
export function limitDescriptions(
  tool: JsonObject,
  policy: ServerConfig['toolDescriptionPolicy'],
): JsonObject {
  if (policy.mode === 'preserve') return tool
  const isStripped = policy.mode === 'strip'
  const limit = (text: string, maxChars: number | null): string | undefined =>
    isStripped ? undefined : maxChars === null ? text : capped(text, maxChars, false)
  const edit: TextEdit = (text, key) =>
    key === 'title' ? text : limit(text, policy.maxSchemaDescriptionChars)
  return withFields(tool, {
    description: ofText(tool['description'], (text) => limit(text, policy.maxToolDescriptionChars)),
    inputSchema: editSchemaText(tool['inputSchema'], edit),
    outputSchema: editSchemaText(tool['outputSchema'], edit),
  })
}

function ofText(value: unknown, edit: (text: string) => string | undefined): unknown {
  return typeof value === 'string' ? edit(value) : value
}

/** The object with other values in some of its fields; undefined takes one out. The very same object when nothing differs. */
function withFields(object: JsonObject, next: JsonObject): JsonObject {
  const differs = Object.keys(next).filter((name) => next[name] !== object[name])
  if (differs.length === 0) return object
  return Object.fromEntries(
    Object.entries(object).flatMap(([name, value]) => {
      const own = differs.includes(name) ? next[name] : value
      return own === undefined ? [] : [[name, own]]
    }),
  )
}
