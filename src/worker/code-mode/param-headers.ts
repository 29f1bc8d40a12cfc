/** `Mcp-Name` and `Mcp-Param-*` of a call in the revision without sessions, which repeat the body for those who route by headers. */
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from '../exchange/json-rpc.ts'
import { headerText } from './inner-requests.ts'

/** Names of headers: RFC 9110 token. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** The headers for a call of a tool; `definition` is the tool as listed, where it is known. */
export function callHeaders(
  tool: string,
  args: JsonObject,
  definition: JsonObject | undefined,
): readonly string[] {
  const headers = ['mcp-name', headerText(tool)]
  const schema = definition?.['inputSchema']
  const properties = isObject(schema) ? schema['properties'] : undefined
  if (!isObject(properties)) return headers
  for (const [name, property] of Object.entries(properties)) {
    const header = isObject(property) ? property['x-mcp-header'] : undefined
    const value = Object.hasOwn(args, name) ? args[name] : undefined
    if (typeof header !== 'string' || !TOKEN.test(header)) continue
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
      continue
    headers.push(`mcp-param-${header.toLowerCase()}`, headerText(String(value)))
  }
  return headers
}
