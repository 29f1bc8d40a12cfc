/** The fields that are accepted but whose behaviour is not there yet: data, to be shortened as things get built. */

/** One field, or all fields below one. */
export interface NotBuiltField {
  /** Dotted path; `[]` stands for any index and a final `*` for everything below. */
  readonly path: string
  /** When given, only these values miss something. */
  readonly onlyFor?: readonly unknown[]
  /** When given, nothing is missing while that other field has one of these values (`[]`: the same index). */
  readonly unless?: { readonly path: string; readonly is: readonly unknown[] }
}

/** Everything that is accepted and not built. */
export const NOT_BUILT: readonly NotBuiltField[] = [
  { path: 'core.max_start_wait_seconds' },
  { path: 'core.upstream_ping.*', unless: { path: 'core.upstream_ping.enabled', is: [false] } },
  { path: 'telemetry.*', unless: { path: 'telemetry.enabled', is: [false] } },
  {
    path: 'servers[].upstream_ping.*',
    unless: { path: 'servers[].upstream_ping.enabled', is: [false] },
  },
]
