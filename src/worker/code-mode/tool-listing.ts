/** What `search` and `get_schema` say: tools in three degrees of detail, for a model to read. */
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from '../exchange/json-rpc.ts'
import type { Detail } from './code-tools.ts'

/** Longest description in a brief line, in characters. */
const BRIEF_CHARS = 300

/** The name of a tool as listed; undefined for what is no tool. */
export function nameOf(tool: unknown): string | undefined {
  const name = isObject(tool) ? tool['name'] : undefined
  return typeof name === 'string' ? name : undefined
}

/** Tags as FastMCP servers send them. */
export function tagsOf(tool: JsonObject): readonly string[] {
  const meta = isObject(tool['_meta']) ? tool['_meta'] : {}
  for (const key of ['fastmcp', '_fastmcp']) {
    const own = meta[key]
    const tags = isObject(own) ? own['tags'] : undefined
    if (Array.isArray(tags)) return tags.filter((tag) => typeof tag === 'string')
  }
  return []
}

/** The tools as text. */
export function describeTools(tools: readonly JsonObject[], detail: Detail): string {
  switch (detail) {
    case 'brief':
      return tools
        .map((tool) => `- ${nameOf(tool)}: ${briefly(textOf(tool['description']))}`)
        .join('\n')
    case 'detailed':
      return tools.map(detailed).join('\n\n')
    case 'full':
      return JSON.stringify(tools, null, 2)
  }
}

function detailed(tool: JsonObject): string {
  const { inputSchema, outputSchema } = tool
  const lines = [`## ${nameOf(tool)}`, textOf(tool['description']).trim(), 'Arguments:']
  lines.push(...fieldsOf(inputSchema))
  if (isObject(outputSchema)) lines.push('structuredContent:', ...fieldsOf(outputSchema))
  return lines.filter((line) => line !== '').join('\n')
}

function fieldsOf(schema: unknown): readonly string[] {
  const properties = isObject(schema) ? schema['properties'] : undefined
  if (!isObject(schema) || !isObject(properties) || Object.keys(properties).length === 0)
    return [
      isObject(schema) && schema['properties'] === undefined
        ? `- ${JSON.stringify(schema)}`
        : '- none',
    ]
  const { required } = schema
  return Object.entries(properties).map(([name, field]) => {
    const isRequired = Array.isArray(required) && required.includes(name)
    const about = isObject(field) ? textOf(field['description']).trim() : ''
    const type = typeOf(field)
    return `- ${name} (${type}${isRequired ? ', required' : ''})${about === '' ? '' : `: ${about}`}`
  })
}

/** A type in few words; a field that has more to it than its type is shown as its schema. */
function typeOf(field: unknown): string {
  if (!isObject(field)) return 'any'
  const { type, description: _, title: __, default: ___, ...more } = field
  if (Object.keys(more).length > 0) return JSON.stringify({ type, ...more })
  if (type === undefined) return 'any'
  return typeof type === 'string' ? type : JSON.stringify(type)
}

function briefly(text: string): string {
  const [first = ''] = text.trim().split(/\n\s*\n/)
  const line = first.replaceAll(/\s+/g, ' ')
  return line.length > BRIEF_CHARS ? `${line.slice(0, BRIEF_CHARS)}…` : line
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
