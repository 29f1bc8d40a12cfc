/** A call that fails without having begun. */
import type { AdapterError } from '../../shared/errors.ts'
import type { AnswerListener, UpstreamCall } from './upstream.ts'

/** Tells the listener after the present turn: it is never called from inside `call`. */
export function refusedCall(listener: AnswerListener, error: AdapterError): UpstreamCall {
  let isOver = false
  process.nextTick(() => {
    if (!isOver) listener.error(error)
  })
  return {
    abort: () => {
      isOver = true
    },
    pause: () => {},
    resume: () => {},
  }
}
