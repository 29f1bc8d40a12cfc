/** A POST of a client that is handed to who holds the client's stream. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Place } from '../../shared/place.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { fail } from '../exchange/failure.ts'
import { RawSink } from '../exchange/raw-sink.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import type { HopClient } from './hop-client.ts'
import { connectionGone } from './lost-session.ts'

/** What is known of the server that a message is for. */
export interface BoundedServer {
  readonly id: string
  /** Null for no limit. */
  readonly toolCallTimeoutSeconds: number | null
}

/**
 * Hands it over as one of the principal that was found here, and the answer back. A message is taken or refused at once; whoever does neither is waited
 * for as long as an upstream that answers a request.
 */
export function handOver(
  hop: Pick<HopClient, 'forward'>,
  place: Place,
  server: BoundedServer,
  exchange: Exchange,
): void {
  const { headers, body, target, principal, correlationId } = exchange.request
  let sink: RawSink | undefined
  const giveUp = (seconds: number): void => {
    call.abort()
    const message = `the replica that holds the stream of this session did not take the message within ${seconds} s`
    if (sink === undefined)
      fail(exchange, new AdapterError('ADAPTER_UPSTREAM_TIMEOUT', message), null)
    else exchange.reset()
  }
  const { id: serverId, toolCallTimeoutSeconds: limit } = server
  const timer = limit === null ? undefined : setTimeout(() => giveUp(limit), limit * 1_000)
  const listener = {
    head: (status: number, answered: HeaderList, isOurs = false) => {
      // What the holder refuses it counts itself.
      if (isOurs) exchange.noteRefusal?.(connectionGone())
      sink = new RawSink(exchange, { status, headers: answered }, call, () => exchange.reset())
    },
    data: (chunk: Uint8Array) => sink?.data(chunk),
    end: () => {
      clearTimeout(timer)
      sink?.end()
    },
    error: (error: AdapterError) => {
      clearTimeout(timer)
      if (sink === undefined) fail(exchange, error, null)
      else sink.error(error)
    },
  }
  const request = {
    kind: 'messages',
    serverId,
    headers,
    target,
    principal,
    ...(correlationId === undefined ? {} : { correlationId }),
  } as const
  const call: UpstreamCall = hop.forward(place, request, body, listener)
  exchange.onAbort(() => {
    clearTimeout(timer)
    call.abort()
  })
}
