/** `core.tls`: ending TLS on the listener itself. */

import { z } from 'zod'

import { section, text } from './fields.ts'

/** `core.tls`. */
export const tlsSchema = section({
  cert_file: text()
    .nullable()
    .default(null)
    .describe(
      'PEM file with the certificate and those that it was signed with; null leaves TLS to a proxy in front. Needs the current build of the listener (glibc 2.38 or newer). Read at start.',
    ),
  key_file: text().nullable().default(null).describe('PEM file with the key of the certificate.'),
  passphrase: z.string().nullable().default(null).describe('What the key is locked with. Secret.'),
})
