/** Answers that are written in one piece: ours, and those that a worker hands over whole. */
import type { AdapterError } from '../../shared/errors.ts'
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import type { HeaderList, RouteKind } from '../../shared/frames/frames.ts'
import { canDrain, LingeringAnswer } from './lingering-answer.ts'
import type { HttpResponse } from './native.ts'
import { writeHead } from './response-head.ts'

/** Largest whole body that is written together with its head, in characters of at most two bytes. */
const MAX_CORKED_BYTES = 4_096

/** What is told to a client that may come again, in seconds. */
const RETRY_AFTER = '1'

/**
 * What becomes of the connection after an answer: it is kept; it is closed from here; or the client is told to close it, which loses nothing where
 * bytes of the request are still to come.
 */
export type Ending = 'keep' | 'close' | 'announce'

/** Says when every answer ends its connection, so that clients go elsewhere while this replica still serves. */
export interface Drain {
  readonly isDraining: boolean
}

/** Writes a whole answer; true when it has left or will by itself, false when `onSent` tells so later. `headOnly`: to a HEAD request, which gets no body (RFC 9110 §9.3.2). */
export function respond(
  res: HttpResponse,
  status: number,
  headers: HeaderList,
  body: Uint8Array | string,
  options: { headOnly: boolean; ending: Ending; onSent?: () => void },
): boolean {
  const { ending } = options
  let isLarge = false
  res.cork(() => {
    writeHead(res, status, headers)
    // RFC 9110 §8.6: no Content-Length with 204 and 304.
    if (status === 204 || status === 304) endWithoutBody(res, undefined, ending)
    else if (options.headOnly) endWithoutBody(res, Buffer.byteLength(body), ending)
    else if (body.length <= MAX_CORKED_BYTES) {
      if (ending === 'announce') res.writeHeader('connection', 'close')
      res.end(body, ending === 'close')
    } else {
      if (ending !== 'keep') res.writeHeader('connection', 'close')
      isLarge = true
    }
  })
  if (!isLarge) return true
  return endLarge(
    res,
    typeof body === 'string' ? Buffer.from(body) : body,
    options.onSent ?? (() => {}),
  )
}

/** Everything goes in as a header: with any argument, one of the builds announces a body of its own and waits for it. */
export function endWithoutBody(
  res: HttpResponse,
  contentLength: number | undefined,
  ending: Ending,
): void {
  if (contentLength !== undefined) res.writeHeader('content-length', String(contentLength))
  if (ending !== 'keep') res.writeHeader('connection', 'close')
  res.endWithoutBody()
}

/** An error of ours, in the format of the route. */
export function errorAnswer(
  error: AdapterError,
  route: RouteKind | 'other',
): { status: number; headers: HeaderList; body: string } {
  const isFile = route === 'upload' || route === 'artifact' || route === 'other'
  const body = isFile ? error.toJson() : error.toJsonRpc(null)
  const retryHint = error.status === 503 || error.status === 429 ? ['retry-after', RETRY_AFTER] : []
  return {
    status: error.status,
    headers: ['content-type', 'application/json', ...DATA_HEADERS, ...retryHint],
    body,
  }
}

/** Answers a request that goes no further with an error of ours, whatever body it may still send. Takes the callbacks of the response. */
export function refuse(
  res: HttpResponse,
  error: AdapterError,
  route: RouteKind | 'other',
  request: {
    readonly method: string
    readonly contentLength: number
    /** Further headers of the answer. */
    readonly headers: HeaderList
  },
  drain: Drain,
): void {
  const { status, headers, body } = errorAnswer(error, route)
  const { method, contentLength } = request
  const all = [...headers, ...request.headers]
  const isHead = method === 'HEAD'
  if (canDrain(contentLength) || isHead) {
    const toCome = contentLength > 0 ? 'announce' : 'close'
    const ending = !canDrain(contentLength) ? 'close' : drain.isDraining ? toCome : 'keep'
    res.onAborted(() => {})
    respond(res, status, all, body, { headOnly: isHead, ending })
    return
  }
  const lingering = new LingeringAnswer(res, status, all, body)
  res.onAborted(() => lingering.abort())
  res.onData((lent, isLast) => lingering.take(lent.byteLength, isLast))
}

/**
 * Ends a response with a body too large for uWebSockets.js's cork buffer (see `PacedWriter`): `tryEnd` leaves what it can't take with us.
 */
function endLarge(res: HttpResponse, body: Uint8Array, onSent: () => void): boolean {
  let offset = res.getWriteOffset()
  const start = offset
  let isComplete = false
  const send = (): boolean => {
    let accepted = false
    res.cork(() => {
      ;[accepted, isComplete] = res.tryEnd(body.subarray(offset - start), body.byteLength)
    })
    return accepted
  }
  res.onWritable((written) => {
    offset = written
    const accepted = send()
    if (isComplete) onSent()
    return accepted
  })
  send()
  return isComplete
}
