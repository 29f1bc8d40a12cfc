/** How a request that can't be served is answered. */
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import type { AdapterError } from '../../shared/errors.ts'
import type { Exchange } from './exchange.ts'
import type { Envelope, RequestId } from './json-rpc.ts'

/** Answers with the error; what may succeed later says when to try again, in seconds. */
export function fail(
  exchange: Exchange,
  error: AdapterError,
  id: RequestId | null,
  retryAfterSeconds = error.retryAfterSeconds ?? 1,
): void {
  exchange.noteRefusal?.(error)
  const isRetryable = error.status === 503 || error.status === 429
  const retryAfter = isRetryable ? ['retry-after', String(retryAfterSeconds)] : []
  exchange.respond(
    error.status,
    ['content-type', 'application/json', ...DATA_HEADERS, ...retryAfter],
    error.toJsonRpc(id),
  )
}

/** The id that an error about the whole body is answered under: that of its only request, else null. */
export function firstId(envelope: Envelope | undefined): RequestId | null {
  const request = envelope?.messages.find((message) => message.kind === 'request')
  return request?.kind === 'request' && envelope?.isBatch === false ? request.id : null
}
