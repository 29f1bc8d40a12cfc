/** Which requests may be sent twice. */

/** Methods that read only: sent again when a reused connection breaks before an answer. */
export const SAFE_METHODS: ReadonlySet<string> = new Set([
  'ping',
  'tools/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'prompts/list',
  'prompts/get',
  'completion/complete',
  'server/discover',
])
