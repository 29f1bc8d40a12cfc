/** The one place on this side where internal errors become errors of the catalogue. */
import { AdapterError, StoreUnavailableError } from '../../shared/errors.ts'

/** Any error as one that can be answered; what we did not expect is not shown. */
export function toAdapterError(error: unknown): AdapterError {
  if (error instanceof AdapterError) return error
  return error instanceof StoreUnavailableError
    ? new AdapterError('ADAPTER_STATE_UNAVAILABLE', 'the state store does not answer; try again', {
        cause: error,
      })
    : new AdapterError('ADAPTER_INTERNAL', 'the adapter failed while it handled this request', {
        cause: error,
      })
}
