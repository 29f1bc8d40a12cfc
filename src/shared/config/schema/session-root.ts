/** `servers[].upstream.session_root`: the session's directory as the upstream's only root. */

import { bool, section, text } from './fields.ts'

/** `session_root`. */
export const sessionRootSchema = section({
  enabled: bool()
    .default(false)
    .describe(
      "Answer the upstream's `roots/list` with the directory of the session, whatever roots the client has, so that an upstream which keeps to its roots reads and writes there and nowhere else. The client is never asked. Implies `hold_stream`; has no effect on requests without a session (revision 2026-07-28).",
    ),
  sessions_path: text()
    .nullable()
    .default(null)
    .describe(
      'Where the upstream finds the directory `sessions` of `storage.root`, as an absolute path, when it has it under another path than the adapter; paths in roots, tool arguments and results are translated. null for the same path.',
    ),
})
