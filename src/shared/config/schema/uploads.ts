/** `uploads`: files from clients. */

import { bool, byteSize, positive, section, uriScheme } from './fields.ts'

/** `uploads`. */
export const uploadsSchema = section({
  enabled: bool().default(true).describe('Accept uploads.'),
  max_file_bytes: byteSize({ min: 1 })
    .default(10 * 1024 ** 2)
    .describe('Largest file.'),
  ttl_seconds: positive()
    .nullable()
    .default(120)
    .describe('Seconds without use after which an upload is deleted; null for never.'),
  require_sha256: bool().default(false).describe('Refuse an upload without its SHA-256 digest.'),
  uri_scheme: uriScheme()
    .default('upload://')
    .describe('How upload handles begin, in tool arguments and answers.'),
})
