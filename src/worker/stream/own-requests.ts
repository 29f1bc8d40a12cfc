/** What the adapter itself sends to an upstream in a client's place: the GET while the client has no stream open, answers to pings and to `roots/list`. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { JsonObject, SessionRecord } from '../../shared/state/records.ts'
import { credentialsOf } from '../session/handshake.ts'
import { collectAnswer } from '../upstream/collect.ts'
import { upstreamHeaders, withoutHeader } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import type { GetPlan } from './upstream-get.ts'

/** Longest wait for an upstream to take an answer to its request, in milliseconds. */
const ANSWER_TIMEOUT_MS = 15_000
/** Largest answer to that, in bytes. */
const ANSWER_MAX_BYTES = 65_536

/** On whose behalf: what the session's record says, and the last request of the client that this worker saw, if any. */
export interface OnBehalf {
  readonly server: ServerConfig
  readonly record: SessionRecord
  /** Headers of a request of the client: those that the operator passes through go along. They are never stored, so another replica has none. */
  readonly received: HeaderList
}

/** A GET for a stream that no client asks for now. `lastEventId` lets an upstream go on where it was. */
export function ownGetPlan(onBehalf: OnBehalf, lastEventId: string | undefined): GetPlan {
  return {
    headers: (resumes) => [
      ...commonHeaders(onBehalf),
      'accept',
      'text/event-stream',
      ...(resumes && lastEventId !== undefined ? ['last-event-id', lastEventId] : []),
    ],
    resumes: lastEventId !== undefined,
    // Without a client there is nobody to keep a session for that the upstream has given up.
    recover: undefined,
    recoveries: 0,
    mayStartAfresh: () => true,
  }
}

/** Answers a request of the upstream's, a ping for example, and answers the status of that. Rejects when the answer can't be delivered. */
export async function answerRequest(
  upstream: Upstream,
  onBehalf: OnBehalf,
  id: unknown,
  result: JsonObject = {},
): Promise<number> {
  const { status } = await collectAnswer(
    upstream,
    {
      method: 'POST',
      headers: [
        ...commonHeaders(onBehalf),
        'accept',
        'application/json, text/event-stream',
        'content-type',
        'application/json',
      ],
      body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, result })),
      // Twice does no harm; an answer that is lost with an idle connection ends the session.
      isSafe: true,
      // What waits for it has its place already.
      isFollowUp: true,
    },
    { timeoutMs: ANSWER_TIMEOUT_MS, maxBytes: ANSWER_MAX_BYTES },
  )
  return status
}

function commonHeaders({ server, record, received }: OnBehalf): string[] {
  return [
    ...upstreamHeaders(
      withoutHeader(credentialsOf(received), 'accept-encoding'),
      server,
      record.upstreamSessionId,
    ),
    'mcp-protocol-version',
    record.protocolVersion,
  ]
}
