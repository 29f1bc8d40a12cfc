/** The reference tables of `docs/configuration.md`, made from the same schema that checks the file. */

import { strictJsonSchema, type JsonSchema } from './json-schema.ts'
import { formatByteSize } from './units.ts'

const BEGIN = '<!-- generated from the schema: begin -->'
const HEADINGS = ['Field', 'Type', 'Default', 'What it does']
const TYPE_NAMES: Readonly<Record<string, string>> = {
  boolean: 'true or false',
  object: 'map of text to text',
  string: 'text',
}
const END = '<!-- generated from the schema: end -->'

/** The page with everything between its two markers replaced; throws when a marker is missing. */
export function updateReferencePage(page: string): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`the page must contain ${BEGIN} and ${END}`)
  return `${page.slice(0, begin + BEGIN.length)}\n\n${renderReference()}\n${page.slice(end)}`
}

/** One heading and table per section, in Markdown. */
export function renderReference(): string {
  const sections = Object.entries(strictJsonSchema().properties ?? {}).flatMap(([name, schema]) =>
    renderField(name, schema),
  )
  // What both types of adapter have in common is shown once.
  return [...new Set(sections)].join('\n')
}

/** The section or the list of sections at a path, followed by those inside it. */
function renderField(path: string, schema: JsonSchema): string[] {
  const { items, oneOf, properties } = schema
  if (items !== undefined) return renderField(`${path}[]`, { ...items, ...describedBy(schema) })
  if (oneOf !== undefined) {
    const variants = oneOf.flatMap((variant) => {
      const type = variant.properties?.['type']
      const title = `${path} with type ${type?.const}`
      return renderSection(title, path, { ...variant, ...describedBy(type ?? {}) })
    })
    return [...renderSection(path, path, describedBy(schema)), ...variants]
  }
  return properties === undefined ? [] : renderSection(path, path, schema)
}

function renderSection(title: string, path: string, schema: JsonSchema): string[] {
  const fields = Object.entries(schema.properties ?? {})
  const rows = fields
    .filter(([, field]) => !isSection(field))
    .map(([name, field]) => {
      const isRequired = schema.required?.includes(name) === true
      const fallback = isRequired ? '_required_' : `\`${printDefault(field)}\``
      return [`\`${name}\``, typeName(field), fallback, field.description ?? '']
    })
  const table = rows.length === 0 ? [] : [...renderTable(HEADINGS, rows), '']
  return [
    [`### \`${title}\``, '', schema.description ?? '', '', ...table].join('\n'),
    ...fields
      .flatMap(([name, field]) => sectionsOf(field).map((inner) => [name, inner] as const))
      .flatMap(([name, inner]) => renderField(`${path}.${name}`, inner)),
  ]
}

/** The sections that a field is or, where it also takes simple values, can be. */
function sectionsOf(field: JsonSchema): JsonSchema[] {
  if (isSection(field)) return [field]
  const section = field.anyOf?.find(isSection)
  return section === undefined ? [] : [{ ...section, ...describedBy(field) }]
}

function isSection(schema: JsonSchema): boolean {
  return (
    schema.properties !== undefined ||
    schema.items?.properties !== undefined ||
    schema.items?.oneOf !== undefined
  )
}

function describedBy({ description }: JsonSchema): { description?: string } {
  return description === undefined ? {} : { description }
}

function printDefault(schema: JsonSchema): string {
  const value = schema.default
  return isByteSize(schema) && typeof value === 'number'
    ? formatByteSize(value)
    : JSON.stringify(value).replaceAll('","', '", "')
}

function isByteSize(schema: JsonSchema): boolean {
  return schema.format === 'byte-size' || schema.anyOf?.some(isByteSize) === true
}

function typeName(schema: JsonSchema): string {
  if (schema.properties !== undefined) return 'a section'
  if (schema.anyOf !== undefined) return schema.anyOf.map(typeName).join(' or ')
  if (schema.enum !== undefined) return schema.enum.map((word) => `\`${String(word)}\``).join(', ')
  if (schema.const !== undefined) return `\`${schema.const}\``
  if (Array.isArray(schema.type))
    return schema.type.map((type) => typeName({ ...schema, type })).join(' or ')
  if (schema.type === 'integer')
    return schema.format === 'byte-size' ? 'byte size' : `whole number${bounds(schema)}`
  if (schema.type === 'array') return `list of ${typeName(schema.items ?? {})}`
  return TYPE_NAMES[schema.type ?? ''] ?? schema.type ?? 'anything'
}

function bounds({ minimum, maximum }: JsonSchema): string {
  if (minimum !== undefined && maximum !== undefined) return `, ${minimum} to ${maximum}`
  return minimum === undefined ? '' : `, at least ${minimum}`
}

/** Columns are padded, as the formatter of the repository would. */
export function renderTable(headings: readonly string[], rows: readonly string[][]): string[] {
  const cells = [headings, ...rows].map((row) =>
    row.map((text) => text.replaceAll('|', String.raw`\|`)),
  )
  const widths = headings.map((_, column) =>
    Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)),
  )
  const lines = cells.map((row) =>
    row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(' | '),
  )
  const rule = widths.map((width) => '-'.repeat(width)).join(' | ')
  return [...lines.slice(0, 1), rule, ...lines.slice(1)].map((line) => `| ${line} |`)
}
