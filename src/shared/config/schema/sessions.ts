/** `sessions`: how many, how long, how big. */

import { bool, byteSize, choice, integer, positive, section } from './fields.ts'

/** `sessions`. */
export const sessionsSchema = section({
  max_active: positive()
    .nullable()
    .default(null)
    .describe('Sessions at a time, all servers and replicas together; null for no limit.'),
  max_in_flight_per_session: positive()
    .nullable()
    .default(null)
    .describe('Requests at a time in one session; null for no limit.'),
  idle_ttl_seconds: positive()
    .nullable()
    .default(null)
    .describe('Seconds without a request after which a session ends; null for never.'),
  allow_revival: bool()
    .default(true)
    .describe('Let a client come back to a session that ended by being idle.'),
  tombstone_ttl_seconds: positive()
    .default(86_400)
    .describe('Seconds for which an ended session can be revived.'),
  upstream_session_termination_retries: integer({ min: 0, max: 5 })
    .default(1)
    .describe(
      'Times a request is sent again, on a new upstream session, after the upstream ended the one it had.',
    ),
  max_total_session_size: byteSize()
    .nullable()
    .default(null)
    .describe('Most bytes of uploads and artifacts in one session; null for no limit.'),
  eviction_policy: choice(['lru_uploads_then_artifacts', 'lru_artifacts_then_uploads'])
    .default('lru_uploads_then_artifacts')
    .describe('What is deleted first, least recently used first, when a session is full.'),
})
