/** How failures of an upstream connection are told: one place for their codes and texts. */
import { AdapterError } from '../../../shared/errors.ts'

/** The connection could not be made, or broke. `why` is a system error code or a word; `hasHead` says whether an answer had begun. */
export function unreachable(why: string, hasHead: boolean, cause?: Error): AdapterError {
  const what = hasHead
    ? 'the upstream server cut its answer short'
    : 'the upstream server can not be reached'
  return new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', `${what} (${why})`, { cause })
}

/** The connection was not made in time. */
export function connectTimedOut(): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_TIMEOUT',
    'the upstream server did not accept a connection in time',
  )
}

/** The answer breaks a rule of HTTP/1.1, or a limit. */
export function invalidAnswer(why: string): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_INVALID',
    `the upstream server's answer is not valid HTTP (${why})`,
  )
}

/** A request header can't be sent as it is. The value is not shown: it may be a secret. */
export function invalidHeader(name: string, why: string): AdapterError {
  return new AdapterError(
    'ADAPTER_HEADER_INVALID',
    `the request header ${JSON.stringify(name.slice(0, 64))} can not be sent to the upstream server: ${why}`,
  )
}

/** The system's code for an error, or its name. */
export function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
