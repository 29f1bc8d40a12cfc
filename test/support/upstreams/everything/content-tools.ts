// Tools that answer at once: each kind of content block, an error, and the input schemas that proxies like to damage.

import { fromJsonSchema, type CallToolResult, type McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { emptyWav, redPixelPng } from './media.ts'

/** A tool result with one text block. */
export function textResult(text: string): CallToolResult {
  return { content: [{ type: 'text', text }] }
}

/** The extension keyword isn't in the SDK's schema type, hence a value of its own. */
const mirroredString = {
  type: 'string' as const,
  description: 'Mirrored in a header',
  'x-mcp-header': 'Region',
}

const customHeaderInput = fromJsonSchema<{ region: string; note?: string }>({
  type: 'object',
  properties: {
    region: mirroredString,
    note: { type: 'string' },
  },
  required: ['region'],
})

const schema2020Input = fromJsonSchema<Record<string, unknown>>({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // oxlint-disable-next-line unicorn/no-thenable -- a JSON Schema keyword, never awaited
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
})

const mixedResource = {
  uri: 'test://mixed-content-resource',
  mimeType: 'application/json',
  text: '{"test":"data","value":123}',
}

const embeddedResource = {
  uri: 'test://embedded-resource',
  mimeType: 'text/plain',
  text: 'This is an embedded resource content.',
}

/** The tools without arguments and what each of them always answers. */
const constantResults: Readonly<Record<string, { description: string; result: CallToolResult }>> = {
  test_simple_text: {
    description: 'Answers one text block',
    result: textResult('This is a simple text response for testing.'),
  },
  test_image_content: {
    description: 'Answers one image block',
    result: { content: [{ type: 'image', data: redPixelPng, mimeType: 'image/png' }] },
  },
  test_audio_content: {
    description: 'Answers one audio block',
    result: { content: [{ type: 'audio', data: emptyWav, mimeType: 'audio/wav' }] },
  },
  test_embedded_resource: {
    description: 'Answers one embedded resource',
    result: { content: [{ type: 'resource', resource: embeddedResource }] },
  },
  test_multiple_content_types: {
    description: 'Answers text, image and embedded resource blocks together',
    result: {
      content: [
        { type: 'text', text: 'Multiple content types test:' },
        { type: 'image', data: redPixelPng, mimeType: 'image/png' },
        { type: 'resource', resource: mixedResource },
      ],
    },
  },
}

/** Registers the content tools. */
export function registerContentTools(server: McpServer): void {
  for (const [name, { description, result }] of Object.entries(constantResults)) {
    server.registerTool(name, { description }, () => result)
  }
  server.registerTool('test_error_handling', { description: 'Always fails' }, () => {
    throw new Error('This tool intentionally returns an error for testing')
  })
  server.registerTool(
    'test_custom_header',
    { description: 'Has an argument that is mirrored in a header', inputSchema: customHeaderInput },
    ({ region }) => textResult(`Region: ${region}`),
  )
  server.registerTool(
    'json_schema_2020_12_tool',
    { description: 'Tool with JSON Schema 2020-12 features', inputSchema: schema2020Input },
    (input) => textResult(`Received: ${JSON.stringify(input)}`),
  )
  server.registerTool(
    'test_echo',
    { description: 'Answers its message', inputSchema: z.object({ message: z.string() }) },
    ({ message }) => textResult(message),
  )
}
