/** Who may do what: every route of the adapter, with every kind of credential, and what has to come of it. The tests generate their cases from this. */

/** The kinds of credentials, right and wrong ones. */
export const COLUMNS = [
  'no credentials',
  'wrong',
  'right',
  'other principal',
  'expired signature',
  'tampered signature',
  'replayed nonce',
  'other session',
  'other server',
] as const

/** One of them. */
export type Column = (typeof COLUMNS)[number]

/** What has to come: `allowed`, with a status below 300 or whatever the upstream says; else status and code of the refusal. */
export type Expectation =
  | { readonly kind: 'allowed' }
  /** `asUnknown`: the answer is the one that something that does not exist gets, byte by byte. */
  | {
      readonly kind: 'refused'
      readonly status: number
      readonly code: string
      readonly asUnknown?: true
    }

const ALLOWED: Expectation = { kind: 'allowed' }
const NO_TOKEN = refused(401, 'ADAPTER_UNAUTHORIZED')
const NO_SESSION = { ...refused(404, 'ADAPTER_SESSION_UNKNOWN'), asUnknown: true } as const
const NO_ARTIFACT = { ...refused(404, 'ADAPTER_ARTIFACT_UNKNOWN'), asUnknown: true } as const
const EXPIRED_LINK = refused(404, 'ADAPTER_ARTIFACT_UNKNOWN')
const BAD_LINK = refused(403, 'ADAPTER_DOWNLOAD_REFUSED')
const BAD_TICKET = refused(403, 'ADAPTER_UPLOAD_TICKET_INVALID')
const OLD_TICKET = refused(403, 'ADAPTER_UPLOAD_TICKET_EXPIRED')
const USED_TICKET = refused(410, 'ADAPTER_UPLOAD_TICKET_USED')

/** A token, and what belongs to its principal and to that server. */
const OF_A_SESSION = row(
  NO_TOKEN,
  NO_TOKEN,
  ALLOWED,
  NO_SESSION,
  NO_TOKEN,
  NO_TOKEN,
  NO_TOKEN,
  NO_SESSION,
  NO_SESSION,
)

/** How a route tells who asks, with what follows for each column. */
export const RULES = {
  /** A token, which any principal has. What is signed in the query helps nobody; a session or server of somebody else's is no part of the question. */
  token: row(NO_TOKEN, NO_TOKEN, ALLOWED, ALLOWED, NO_TOKEN, NO_TOKEN, NO_TOKEN, ALLOWED, ALLOWED),
  /** A token, and the session of its principal on that very server. */
  session: OF_A_SESSION,
  /** The same for an artifact without a signature; one that is there is judged. */
  'session of an artifact': row(
    NO_TOKEN,
    NO_TOKEN,
    ALLOWED,
    NO_ARTIFACT,
    EXPIRED_LINK,
    BAD_LINK,
    NO_TOKEN,
    NO_ARTIFACT,
    NO_ARTIFACT,
  ),
  /** A token, and the stream of its principal on that very server, as a session. */
  'legacy stream': OF_A_SESSION,
  /** A download's signature stands alone, and may be used again. */
  'signed download': row(
    NO_TOKEN,
    NO_TOKEN,
    ALLOWED,
    ALLOWED,
    EXPIRED_LINK,
    BAD_LINK,
    ALLOWED,
    BAD_LINK,
    BAD_LINK,
  ),
  /** An upload's signature stands alone, once. */
  'signed upload': row(
    BAD_TICKET,
    BAD_TICKET,
    ALLOWED,
    ALLOWED,
    OLD_TICKET,
    BAD_TICKET,
    USED_TICKET,
    BAD_TICKET,
    BAD_TICKET,
  ),
  /** Nobody is asked who they are. */
  public: row(...COLUMNS.map(() => ALLOWED)),
} as const

/** Names one of them. */
export type Rule = keyof typeof RULES

/** A route with the rule for it. */
export interface MatrixRoute {
  readonly name: string
  readonly rule: Rule
  readonly method: string
  /** Which body goes with it. */
  readonly body: 'initialize' | 'list' | 'call' | 'stateless' | 'bytes' | 'form' | 'none'
  /** Where it is, if it belongs to no server. */
  readonly path?: string
  /** What follows the mount path of its server, if anything does. */
  readonly below?: '/sse' | '/messages'
}

/** Every route. */
export const ROUTES: readonly MatrixRoute[] = [
  { name: 'initialize', rule: 'token', method: 'POST', body: 'initialize' },
  { name: 'a stateless request', rule: 'token', method: 'POST', body: 'stateless' },
  { name: 'a list in a session', rule: 'session', method: 'POST', body: 'list' },
  { name: 'a tool call in a session', rule: 'session', method: 'POST', body: 'call' },
  { name: 'the stream of a session', rule: 'session', method: 'GET', body: 'none' },
  { name: 'the end of a session', rule: 'session', method: 'DELETE', body: 'none' },
  { name: 'a legacy stream', rule: 'token', method: 'GET', body: 'none', below: '/sse' },
  {
    name: 'a message of a legacy client',
    rule: 'legacy stream',
    method: 'POST',
    body: 'initialize',
    below: '/messages',
  },
  { name: 'metrics', rule: 'token', method: 'GET', body: 'none', path: '/metrics' },
  { name: 'a download', rule: 'session of an artifact', method: 'GET', body: 'none' },
  { name: 'the head of a download', rule: 'session of an artifact', method: 'HEAD', body: 'none' },
  { name: 'a signed download', rule: 'signed download', method: 'GET', body: 'none' },
  { name: 'the head of a signed download', rule: 'signed download', method: 'HEAD', body: 'none' },
  { name: 'an upload form', rule: 'signed upload', method: 'GET', body: 'none' },
  { name: 'an upload by PUT', rule: 'signed upload', method: 'PUT', body: 'bytes' },
  { name: 'an upload by POST', rule: 'signed upload', method: 'POST', body: 'form' },
  ...[
    '/livez',
    '/readyz',
    '/healthz',
    '/.well-known/oauth-protected-resource',
    '/.well-known/oauth-protected-resource/mcp/files',
  ].map((path) => ({ name: path, rule: 'public', method: 'GET', body: 'none', path }) as const),
]

function refused(status: number, code: string) {
  return { kind: 'refused', status, code } as const
}

function row(...expected: readonly Expectation[]): ReadonlyMap<Column, Expectation> {
  return new Map(COLUMNS.map((column, index) => [column, expected[index] ?? ALLOWED]))
}
