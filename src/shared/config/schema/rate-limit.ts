/** `core.rate_limit`: how many requests each principal may make. */

import { positive, section } from './fields.ts'

/** `core.rate_limit`. */
export const rateLimitSchema = section({
  requests_per_minute: positive()
    .nullable()
    .default(null)
    .describe(
      'MCP requests (POST, GET, DELETE) that each principal may make a minute, over all replicas; each message of a batch and each call of a script counts. Without authentication all clients are one principal. Null for no limit.',
    ),
  burst: positive()
    .nullable()
    .default(null)
    .describe(
      'How many of them may come at once after a pause; null for those of a minute. Limits nothing while requests_per_minute is null.',
    ),
})
