/** How a task of a pool thread ended: plain data, because an error loses its class and code on the way between threads. */
import { AdapterError, type ErrorCode } from '../../shared/errors.ts'
import { UnsafePathError } from '../../shared/files/layout.ts'
import { BodyCancelledError } from './body-port.ts'

/** See the file comment. */
export type TaskOutcome<T> = { readonly kind: 'done'; readonly value: T } | TaskFailure

/** Why there is no value. */
export type TaskFailure =
  | { readonly kind: 'cancelled' }
  | {
      readonly kind: 'refused'
      readonly code: ErrorCode
      readonly message: string
      readonly data: Readonly<Record<string, unknown>> | undefined
    }
  /** A path was not what it has to be. */
  | { readonly kind: 'unsafe'; readonly message: string }
  /** `errno` is the file system's code, for example `ENOSPC`. */
  | { readonly kind: 'failed'; readonly errno: string | undefined; readonly message: string }

/** A task failed for a reason of the system; `code` is the file system's, for example `ENOSPC`. */
export class PoolTaskError extends Error {
  override readonly name = 'PoolTaskError'
  readonly code: string | undefined

  constructor(message: string, code: string | undefined) {
    super(message)
    this.code = code
  }
}

/** In the thread: the outcome of work. */
export async function settle<T>(work: Promise<T>): Promise<TaskOutcome<T>> {
  try {
    return { kind: 'done', value: await work }
  } catch (error) {
    return failureOf(error)
  }
}

/** In the thread: the outcome of work that is done in place. */
export function settleSync<T>(work: () => T): TaskOutcome<T> {
  try {
    return { kind: 'done', value: work() }
  } catch (error) {
    return failureOf(error)
  }
}

/** At the owner: the value, or the error thrown again. */
export function valueOf<T>(outcome: TaskOutcome<T>): T {
  switch (outcome.kind) {
    case 'done':
      return outcome.value
    case 'cancelled':
      throw new BodyCancelledError('the upload was given up')
    case 'unsafe':
      throw new UnsafePathError(outcome.message)
    case 'failed':
      throw new PoolTaskError(outcome.message, outcome.errno)
    case 'refused': {
      const { code, message, data } = outcome
      throw new AdapterError(code, message, data === undefined ? {} : { data })
    }
  }
}

function failureOf(error: unknown): TaskFailure {
  if (error instanceof BodyCancelledError) return { kind: 'cancelled' }
  if (error instanceof UnsafePathError) return { kind: 'unsafe', message: error.message }
  if (error instanceof AdapterError) {
    return { kind: 'refused', code: error.code, message: error.message, data: error.data }
  }
  const message = error instanceof Error ? error.message : String(error)
  const errno =
    error instanceof Error && 'code' in error && typeof error.code === 'string'
      ? error.code
      : undefined
  return { kind: 'failed', errno, message }
}
