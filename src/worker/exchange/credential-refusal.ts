/**
 * What becomes of an upstream's 401. To a client, 401 is about the token that it sent. Where that goes on to the upstream, the upstream's 401 is for the
 * client, with the upstream's challenge. Else it is about what the operator configured: a failure behind the adapter, which no other token would mend.
 */
import type { ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import { passesAuthorization } from '../upstream/forwarded-headers.ts'

/** The error to answer with in place of an upstream's answer; undefined when that is relayed. */
export function credentialRefusal(status: number, server: ServerConfig): AdapterError | undefined {
  if (status !== 401 || passesAuthorization(server.upstream)) return undefined
  return new AdapterError(
    'ADAPTER_UPSTREAM_REFUSED',
    'the upstream server answered 401: it refuses the credentials that it is sent; those are the operator’s, or missing',
  )
}
