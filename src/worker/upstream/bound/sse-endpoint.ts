/** The resource that an upstream of the HTTP+SSE transport wants its messages at. */
import { AdapterError } from '../../../shared/errors.ts'

/** Longest reference, in characters. */
const MAX_LENGTH = 8_192

/**
 * Path and query of the `endpoint` event's reference, which may be relative to the stream's URL. Throws ADAPTER_UPSTREAM_INVALID for anything at another
 * origin: an upstream must not choose where the operator's credentials and the clients' messages go.
 */
export function endpointPath(reference: string, stream: URL): string {
  const isUri = reference !== '' && reference.length <= MAX_LENGTH
  if (!isUri || !URL.canParse(reference, stream.href)) throw refused('is not a URI')
  const endpoint = new URL(reference, stream)
  if (endpoint.origin !== stream.origin) throw refused('is at another origin')
  // Else it would be dropped without a word.
  if (endpoint.username !== '' || endpoint.password !== '') throw refused('holds credentials')
  return `${endpoint.pathname}${endpoint.search}`
}

function refused(why: string): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_INVALID',
    `the upstream server names an endpoint that can not be used: it ${why}`,
  )
}
