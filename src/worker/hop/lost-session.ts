/** What is told of sessions whose connection, or the way to it, is gone. */
import { AdapterError } from '../../shared/errors.ts'
import type { AnswerListener } from '../upstream/upstream.ts'

/** Answers as an upstream does that has lost the session: nothing was executed. `isWanted`: whether the call has not been aborted. */
export function answerLost(listener: AnswerListener, isWanted: () => boolean): void {
  const error = connectionGone()
  listener.head(error.status, ['content-type', 'application/json'], true)
  // Whoever hears of the loss usually goes on with another session, and aborts this call.
  if (isWanted()) listener.data(Buffer.from(error.toJsonRpc(null)))
  if (isWanted()) listener.end()
}

/** What is answered then. */
export function connectionGone(): AdapterError {
  return new AdapterError(
    'ADAPTER_SESSION_UNKNOWN',
    'the connection that this session was bound to is gone; initialize a new one',
  )
}

/** The holder ended with the request in hand. */
export function holderLost(cause?: unknown): AdapterError {
  return holderFailed(
    'the replica that held this session ended; whether the upstream server acted on the request is not known',
    cause,
  )
}

/** The way to the holder failed. */
export function holderFailed(message: string, cause?: unknown): AdapterError {
  return new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', message, { cause })
}
