/** The tool that hands out upload URLs: its definition and its answer. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { mintNonce } from '../../shared/signing.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { helperToolName } from '../catalogue/offered.ts'
import { toolError, type CallContext } from './adapter.ts'

/** The helper as it stands in `tools/list`. A function of the configuration only, so that it is the same in every list. */
export function helperToolDefinition(server: ServerConfig, config: Config): JsonObject {
  const scheme = config.uploads.uriScheme
  return {
    name: helperToolName(server.id),
    title: 'Construct Upload Endpoint',
    description:
      'Call this before any tool of this server that needs a file. It returns a pre-signed URL that files are uploaded to, with ready-made commands. ' +
      `The upload answers with an upload_handle (${scheme}sessions/…) for each file: pass that handle as the file argument of the other tool. ` +
      'The URL works once and for a limited time; call this tool again for the next upload.',
    inputSchema: { type: 'object', properties: {}, additionalProperties: false },
    outputSchema: OUTPUT_SCHEMA,
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
  }
}

/** The helper's `CallToolResult` for the caller's session: a fresh one-time URL, and how to use it. */
export async function callHelperTool(context: CallContext): Promise<JsonObject> {
  const { services, server, key } = context
  const { core, uploads } = services.config
  if (!uploads.enabled) return toolError('Uploads are switched off on this server.')
  const ttlSeconds = core.auth.signedUploadTtlSeconds
  const query = services.signer.signUpload({
    serverId: key.serverId,
    sessionId: key.sessionId,
    expiresAtSeconds: Math.floor(Date.now() / 1000) + ttlSeconds,
    nonce: mintNonce(),
  })
  services.onUploadUrl?.(key.serverId)
  const url = `${context.baseUrl}${core.uploadPath}/${encodeURIComponent(server.id)}?${query}`
  const structuredContent = {
    server_id: server.id,
    tool_name: helperToolName(server.id),
    upload_url: url,
    method: 'POST',
    headers: {},
    auth_mode: 'signed_upload_credentials',
    credential_ttl_seconds: ttlSeconds,
    field_name: 'file',
    supports_multiple_files: true,
    max_file_bytes: uploads.maxFileBytes,
    sha256_required: uploads.requireSha256,
    sha256_field_name: 'sha256',
    sha256_per_file: true,
    session_id: key.sessionId,
    ...examples(url, uploads.requireSha256),
    note:
      'Upload with multipart/form-data (one or more "file" parts) or with PUT and the bytes as the body. The URL needs no header, works for one upload and expires ' +
      `after ${ttlSeconds} seconds. A person without a shell can open it in a browser and choose the files there. Then pass the upload_handle from the answer to the tool that needs the file.`,
    integrity_note: uploads.requireSha256
      ? 'A SHA-256 digest (64 hexadecimal digits) is required for every file: one "sha256" field a file, in the order of the files. Compute it with sha256sum.'
      : 'To have an upload checked, add one "sha256" field (64 hexadecimal digits) for every file, in the order of the files.',
  }
  const text = JSON.stringify(structuredContent, null, 2)
  return { content: [{ type: 'text', text }], structuredContent }
}

function examples(url: string, requireSha256: boolean) {
  const quoted = shellQuote(url)
  const digest = (index: string) => (requireSha256 ? ` -F 'sha256=SHA256_OF_FILE${index}'` : '')
  const put = shellQuote(
    `${url}&filename=example.pdf${requireSha256 ? '&sha256=SHA256_OF_FILE' : ''}`,
  )
  return {
    example_curl: `curl -sS -X POST -F 'file=@/path/to/file'${digest('')} ${quoted}`,
    example_curl_multiple: `curl -sS -X POST -F 'file=@/path/to/file1' -F 'file=@/path/to/file2'${digest('1')}${digest('2')} ${quoted}`,
    example_curl_put: `curl -sS -X PUT --data-binary @/path/to/file ${put}`,
  }
}

/** POSIX single quotes. */
function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

const TEXT = { type: 'string' }
const TRUTH = { type: 'boolean' }
const COUNT = { type: 'integer' }

const OUTPUT_PROPERTIES = {
  server_id: TEXT,
  tool_name: TEXT,
  upload_url: { type: 'string', description: 'One-time URL to upload to.' },
  method: TEXT,
  headers: {
    type: 'object',
    additionalProperties: TEXT,
    description: 'Headers to send with the upload; none are needed.',
  },
  auth_mode: TEXT,
  credential_ttl_seconds: { type: 'integer', description: 'Seconds for which the URL works.' },
  field_name: { type: 'string', description: 'Name of the multipart field of a file.' },
  supports_multiple_files: TRUTH,
  max_file_bytes: COUNT,
  sha256_required: TRUTH,
  sha256_field_name: TEXT,
  sha256_per_file: TRUTH,
  session_id: TEXT,
  example_curl: TEXT,
  example_curl_multiple: TEXT,
  example_curl_put: TEXT,
  note: TEXT,
  integrity_note: TEXT,
}

const OUTPUT_SCHEMA = {
  type: 'object',
  properties: OUTPUT_PROPERTIES,
  required: Object.keys(OUTPUT_PROPERTIES),
}
