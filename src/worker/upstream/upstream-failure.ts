/** Which errors tell that an upstream fails. The others are the adapter's own, or the client's. */
import type { AdapterError, ErrorCode } from '../../shared/errors.ts'
import type { UpstreamFailure } from '../../shared/upstream-vitals.ts'

const FAILURE_OF: Partial<Record<ErrorCode, UpstreamFailure>> = {
  ADAPTER_UPSTREAM_UNREACHABLE: 'unreachable',
  ADAPTER_UPSTREAM_TIMEOUT: 'timeout',
  ADAPTER_UPSTREAM_INVALID: 'invalid_answer',
  ADAPTER_UPSTREAM_DOWN: 'server_error',
}

/** What an error says about the upstream that it is about; undefined for nothing. */
export function failureOf(error: AdapterError): UpstreamFailure | undefined {
  return FAILURE_OF[error.code]
}
