/** `core.legacy_sse`: clients of the HTTP+SSE transport of revision 2024-11-05. */

import { bool, section } from './fields.ts'

/** `core.legacy_sse`. */
export const legacySseSchema = section({
  enabled: bool()
    .default(true)
    .describe(
      'Serve clients of the HTTP+SSE transport of revision 2024-11-05: they connect to `<mount_path>/sse` and send to `<mount_path>/messages`. Their session ends with their connection.',
    ),
})
