/** How failures below the file endpoints become errors that a client is told. */
import { AdapterError, StoreUnavailableError } from '../../shared/errors.ts'

/** File-system codes that say something to whoever runs the adapter; none of them names a path to the client. */
const STORAGE_MESSAGES: Readonly<Record<string, string>> = {
  ENOSPC: 'the storage volume is full',
  EDQUOT: 'the storage volume is over its quota',
  EROFS: 'the storage volume is read-only',
  EACCES: 'the storage volume can not be written to',
  EPERM: 'the storage volume can not be written to',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
}

/** An error for the client: known ones as they are, the store's as unavailable, everything else as a storage failure with its cause kept. */
export function asAdapterError(error: unknown): AdapterError {
  if (error instanceof AdapterError) return error
  if (error instanceof StoreUnavailableError) {
    return new AdapterError('ADAPTER_STATE_UNAVAILABLE', 'the session state can not be reached', {
      cause: error,
    })
  }
  const message = STORAGE_MESSAGES[errnoOf(error) ?? ''] ?? 'the file storage failed'
  return new AdapterError('ADAPTER_STORAGE_FAILED', message, { cause: error })
}

/** The file system's code of an error, for example `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  const isCoded = error instanceof Error && 'code' in error && typeof error.code === 'string'
  return isCoded ? String(error.code) : undefined
}
