/** `servers[].adapters[]`: which tools take uploads and which make files. */

import { z } from 'zod'

import { bool, choice, pattern, positive, section, text, uriScheme } from './fields.ts'

const overridesSchema = section({
  tool_call_timeout_seconds: positive()
    .nullable()
    .default(null)
    .describe('Seconds a call of these tools may take; null inherits from the server.'),
  allow_raw_output: bool()
    .nullable()
    .default(null)
    .describe('Append the bytes of an artifact to the result as well; null inherits.'),
})

const tools = z
  .array(z.string().min(1))
  .min(1)
  .describe('Names of the tools, as the upstream spells them.')

/** An adapter that turns upload handles in tool arguments into paths the upstream can read. */
export const uploadConsumerSchema = section({
  type: z.literal('upload_consumer').describe('Tools that take uploaded files.'),
  tools,
  file_path_argument: text().describe(
    'The argument that holds the handle or a list of handles; dots reach into objects.',
  ),
  uri_scheme: uriScheme()
    .nullable()
    .default(null)
    .describe('Must be `uploads.uri_scheme`, which is also what null means.'),
  uri_prefix: bool()
    .nullable()
    .default(null)
    .describe('Write the path as a `file://` URI; null leaves it a plain path.'),
  overrides: overridesSchema.prefault({}).describe('Defaults of tool calls, for these tools.'),
})

const outputLocatorSchema = section({
  mode: choice(['none', 'structured', 'regex', 'embedded', 'directory'])
    .default('none')
    .describe(
      "How the file is found when it is not at the path the tool was given: a field of the structured result, a pattern in the text, or bytes in the result. `directory` keeps every file that appears or changes in the session's directory during the call; it needs `upstream.session_root.enabled`.",
    ),
  output_path_key: z
    .string()
    .nullable()
    .default(null)
    .describe('`structured`: the field that holds the path; dots reach into objects.'),
  output_path_regexes: z
    .array(pattern())
    .default([])
    .describe(
      "`regex`: patterns in order; the first group, or else the whole match, is the path. Empty for the built-in pattern. With `directory`, only files whose path below the session's directory has a match are kept; empty for all. Patterns run in linear time (RE2), so without look-around and back-references.",
    ),
})

/** An adapter that keeps the files its tools make. */
export const artifactProducerSchema = section({
  type: z.literal('artifact_producer').describe('Tools that make files.'),
  tools,
  output_path_argument: z
    .string()
    .nullable()
    .default(null)
    .describe('The argument that is replaced by the path the tool must write to (a plain key).'),
  output_locator: outputLocatorSchema.prefault({}).describe('Finding the file.'),
  persist: bool().default(true).describe('Keep the file as an artifact.'),
  expose_as_resource: bool()
    .default(true)
    .describe('Show the artifact as an MCP resource of its session.'),
  allow_raw_output: bool()
    .nullable()
    .default(null)
    .describe('Append the bytes of the artifact to the result as well; null inherits.'),
  include_raw_output: bool()
    .nullable()
    .default(null)
    .describe('Older name of `allow_raw_output`; give only one of them.'),
  overrides: overridesSchema.prefault({}).describe('Defaults of tool calls, for these tools.'),
})

/** Any adapter, told apart by `type`. */
export const adapterSchema = z.discriminatedUnion('type', [
  uploadConsumerSchema,
  artifactProducerSchema,
])
