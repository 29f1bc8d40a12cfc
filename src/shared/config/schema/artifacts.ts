/** `artifacts`: files made by tools. */

import { bool, positive, section, uriScheme } from './fields.ts'

/** `artifacts`. */
export const artifactsSchema = section({
  enabled: bool().default(true).describe('Keep files that tools make.'),
  ttl_seconds: positive()
    .nullable()
    .default(600)
    .describe('Seconds without use after which an artifact is deleted; null for never.'),
  max_per_session: positive()
    .nullable()
    .default(null)
    .describe('Artifacts at a time in one session; null for no limit.'),
  expose_as_resources: bool()
    .default(true)
    .describe('Show artifacts as MCP resources of their session.'),
  uri_scheme: uriScheme().default('artifact://').describe('How artifact URIs begin.'),
})
