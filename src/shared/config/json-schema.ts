/** The JSON Schema of the configuration file, for editors, made from the zod schema. */

import { z } from 'zod'

import { documentSchema } from './schema/document.ts'
import { BYTE_SIZE_PATTERN } from './units.ts'

/** A JSON Schema node, as far as the configuration needs it. */
export interface JsonSchema {
  $schema?: string
  title?: string
  type?: string | string[]
  format?: string
  description?: string
  default?: unknown
  const?: string
  enum?: unknown[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  minLength?: number
  minItems?: number
  pattern?: string
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  items?: JsonSchema
  properties?: Record<string, JsonSchema>
  additionalProperties?: JsonSchema | boolean
  propertyNames?: JsonSchema
  required?: string[]
}

const MAX_LINE = 100
const VARIABLE = String.raw`\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`
const NUMBER_OR_VARIABLE = String.raw`^\s*[+-]?\d+(\.0+)?\s*$|${VARIABLE}`
const WORD_OR_VARIABLE = String.raw`^\s*([Tt]rue|[Ff]alse|[Tt]|[Ff]|[Yy]es|[Nn]o|[Yy]|[Nn]|[Oo]n|[Oo]ff|1|0)\s*$|${VARIABLE}`

/** The strict schema, as zod has it: what a value is once variables are filled in. */
export function strictJsonSchema(): JsonSchema {
  const schema: unknown = z.toJSONSchema(documentSchema, {
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => {
      const { def } = zodSchema['_zod']
      // Coerced fields lose their default in the input view, although it is what leaving them out means.
      if (def.type === 'default' && 'defaultValue' in def) jsonSchema.default = def.defaultValue
      if (def.type === 'prefault') delete jsonSchema.default
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
    },
  })
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the interface names the JSON Schema keywords that zod writes for our fields
  return schema as JsonSchema
}

/** The schema for editors: as the strict one, with `${VARIABLES}` and quoted numbers allowed for any scalar. */
export function editorJsonSchema(): JsonSchema {
  const { $schema, ...rest } = strictJsonSchema()
  return {
    ...($schema === undefined ? {} : { $schema }),
    title: 'remote-mcp-adapter configuration',
    ...widen(rest),
  }
}

/** The text of `config.schema.json`. */
export function renderJsonSchema(): string {
  const text = JSON.stringify(editorJsonSchema(), null, 2)
  // Short lists on one line, as the formatter of the repository would.
  return `${text.replace(/^( *)(.*)\[\n([^[\]{}]*?)\n\1\]/gm, joinShortList)}\n`
}

function widen(schema: JsonSchema): JsonSchema {
  if (schema.oneOf) return { ...schema, oneOf: schema.oneOf.map(widen) }
  if (schema.anyOf) return { ...schema, anyOf: schema.anyOf.flatMap(widenBranch) }
  if (schema.properties) {
    const properties = Object.entries(schema.properties).map(([name, child]) => [
      name,
      widen(child),
    ])
    return { ...schema, properties: Object.fromEntries(properties) }
  }
  if (schema.items) return { ...schema, items: widen(schema.items) }
  if (typeof schema.additionalProperties === 'object')
    return { ...schema, additionalProperties: widen(schema.additionalProperties) }
  const branches = widenBranch(schema)
  if (branches.length === 1) return schema
  const { description, default: fallback } = schema
  return {
    ...(description === undefined ? {} : { description }),
    ...(fallback === undefined ? {} : { default: fallback }),
    anyOf: branches.map(withoutAnnotations),
  }
}

function joinShortList(whole: string, indent: string, before: string, entries: string): string {
  const list = entries
    .split('\n')
    .map((entry) => entry.trim())
    .join(' ')
  const line = `${indent}${before}[${list}]`
  return line.length < MAX_LINE ? line : whole
}

function withoutAnnotations(schema: JsonSchema): JsonSchema {
  const { description: _description, default: _default, ...rest } = schema
  return rest
}

/** A scalar and what else may be written in its place. */
function widenBranch(schema: JsonSchema): JsonSchema[] {
  if (schema.properties) return [widen(schema)]
  const { format, ...rest } = schema
  if (format === 'byte-size') {
    const pattern = `${BYTE_SIZE_PATTERN.source}|${VARIABLE}`
    return [rest, { type: 'string', pattern }]
  }
  if (schema.type === 'integer') return [schema, { type: 'string', pattern: NUMBER_OR_VARIABLE }]
  if (schema.type === 'boolean' || (Array.isArray(schema.type) && schema.type.includes('boolean')))
    return [schema, { enum: [0, 1] }, { type: 'string', pattern: WORD_OR_VARIABLE }]
  if (schema.enum !== undefined || schema.pattern !== undefined)
    return [schema, { type: 'string', pattern: VARIABLE }]
  return [schema]
}
