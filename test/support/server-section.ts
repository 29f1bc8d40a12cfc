/** Sections of configurations for servers of tests. */

/** Nothing is done with lists of tools. */
export const LISTS_LEFT_ALONE = {
  tool_definition_pinning: { mode: 'off' },
  tool_metadata_sanitization: { mode: 'off' },
} as const

/** Makes servers before one upstream, each mounted under its id. */
export function serversBefore(url: string): (id: string, fields?: object) => object {
  return (id, fields = {}) => ({ id, mount_path: `/${id}`, upstream: { url }, ...fields })
}
