/** What requests refer to: credentials, sessions, URLs and files that exist. */
export interface FuzzWorld {
  readonly token: string
  /** A session of each server, which requests may use and end. */
  readonly sessions: { readonly files: string; readonly hostile: string }
  readonly handle: string
  readonly artifactUri: string
  /** Path and query of an unused upload URL. */
  readonly uploadTarget: string
  /** Path and query of a download URL. */
  readonly downloadTarget: string
}

/** Which header carries the token of the adapter. */
export const TOKEN_HEADER = 'X-Mcp-Adapter-Auth-Token'
