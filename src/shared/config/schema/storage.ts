/** `storage`: the shared directory of uploads and artifacts. */

import { z } from 'zod'

import { bool, byteSize, choice, integer, section, text } from './fields.ts'

/** `storage`. */
export const storageSchema = section({
  root: text()
    .default('/data/shared')
    .describe('Directory of all files; the same directory on every replica and upstream.'),
  max_size: byteSize()
    .nullable()
    .default(null)
    .describe('Most bytes of all sessions together; null for no limit.'),
  atomic_writes: bool()
    .default(true)
    .describe('Write to a temporary file and rename it when it is complete.'),
  lock_mode: choice(['none', 'process', 'file', 'redis', 'auto'])
    .default('auto')
    .describe(
      'Who keeps it to one replica at a time that removes expired and unowned files: `redis` (a lease in Redis, checked there at every step), `file` (a lease in `state/maintenance.lock` under `root`), `process` (only threads of one process exclude each other) or `none` (everybody removes). `auto` is `redis` when state is in Redis and else `file`.',
    ),
  orphan_sweeper_enabled: bool().default(true).describe('Delete files that no session owns.'),
  orphan_sweeper_grace_seconds: integer({ min: 0 })
    .default(300)
    .describe('Seconds a file without an owner is left alone.'),
  artifact_locator_policy: choice(['storage_only', 'allow_configured_roots'])
    .default('storage_only')
    .describe(
      "Where a file named in a tool result may lie: in the session's own area, or also under `artifact_locator_allowed_roots`.",
    ),
  artifact_locator_allowed_roots: z
    .array(z.string())
    .transform((roots) => roots.map((root) => root.trim()).filter((root) => root !== ''))
    .default([])
    .describe('Directories that `allow_configured_roots` adds.'),
})
