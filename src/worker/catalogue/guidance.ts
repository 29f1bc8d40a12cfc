/** The words that tell a model to pass upload handles, and where they go in a tool's definition. Pure. */
import type { UploadConsumerConfig } from '../../shared/config/config.ts'
import type { JsonObject } from '../../shared/state/records.ts'

import { isJsonObject } from '../adapters/dot-path.ts'

/** What the guidance depends on. */
export interface GuidanceOptions {
  /** The helper tool to call first, or null when it is not offered. */
  readonly helperName: string | null
  /** Words kept of the upstream's description; null keeps all of it. */
  readonly maxWords: number | null
}

/** A tool definition with guidance for its upload argument; the given one is not changed. */
export function withGuidance(
  tool: JsonObject,
  consumer: UploadConsumerConfig,
  options: GuidanceOptions,
): JsonObject {
  const guided = guideArgument(tool, consumer, options.helperName)
  const own = typeof tool['description'] === 'string' ? tool['description'].trim() : ''
  const kept = options.maxWords === null || own === '' ? own : shorten(own, options.maxWords)
  const added = toolGuidance(consumer, options.helperName)
  return { ...guided, description: kept === '' ? added : `${kept}\n\n${added}` }
}

/** "Purpose:" and the first sentence, cut to a number of words. */
function shorten(text: string, maxWords: number): string {
  const collapsed = text.replace(/\s+/g, ' ')
  const [sentence = collapsed] = /^.*?[.!?](?=\s|$)/.exec(collapsed) ?? []
  const words = sentence.split(' ')
  const cut = words.length > maxWords ? `${words.slice(0, maxWords).join(' ')}...` : sentence
  return `Purpose: ${cut}`
}

function toolGuidance(consumer: UploadConsumerConfig, helperName: string | null): string {
  const first =
    helperName === null
      ? 'Upload the file to the adapter first'
      : `Call \`${helperName}\` first, upload the file to the URL that it returns`
  const becomes =
    consumer.uriPrefix === true ? 'a file:// URI of the uploaded file' : 'the uploaded file'
  return (
    `Files: \`${consumer.filePathArgument}\` takes ${consumer.uriScheme} handles, never local paths, URLs or file contents. ` +
    `${first}, and pass the returned upload_handle exactly as it is; the server receives ${becomes}.`
  )
}

function argumentGuidance(consumer: UploadConsumerConfig, helperName: string | null): string {
  const from = helperName === null ? '' : ` (get one with ${helperName})`
  return `Pass a ${consumer.uriScheme} handle${from}, or a list of them where a list is taken; not a local path, URL or file content.`
}

function guideArgument(
  tool: JsonObject,
  consumer: UploadConsumerConfig,
  helperName: string | null,
): JsonObject {
  const schema = tool['inputSchema']
  if (!isJsonObject(schema)) return tool
  const text = argumentGuidance(consumer, helperName)
  const path = consumer.filePathArgument.split('.')
  return { ...tool, inputSchema: describeAt(schema, path, text) ?? describe(schema, text) }
}

/** The schema with the property at `path` described; undefined when there is no such property. `$ref` is not followed. */
function describeAt(
  schema: unknown,
  path: readonly string[],
  text: string,
): JsonObject | undefined {
  const [name, ...rest] = path
  if (schema === true && name === undefined) return { description: text } // `true` means `{}`
  if (!isJsonObject(schema)) return undefined
  if (name === undefined) return describe(schema, text)
  const properties = schema['properties']
  if (isJsonObject(properties) && Object.hasOwn(properties, name)) {
    const property = describeAt(properties[name], rest, text)
    return property && { ...schema, properties: { ...properties, [name]: property } }
  }
  // One step into the elements of a list, whose schema must be the one that has the property.
  const items = schema['items']
  if (!isJsonObject(items) || !isJsonObject(items['properties'])) return undefined
  const described = describeAt({ ...items, items: undefined }, path, text)
  if (described === undefined) return undefined
  const { items: _unused, ...withoutItems } = described
  return {
    ...schema,
    items: Object.hasOwn(items, 'items')
      ? { ...withoutItems, items: items['items'] }
      : withoutItems,
  }
}

function describe(schema: JsonObject, text: string): JsonObject {
  const own = typeof schema['description'] === 'string' ? schema['description'].trim() : ''
  return { ...schema, description: own === '' ? text : `${own} ${text}` }
}
