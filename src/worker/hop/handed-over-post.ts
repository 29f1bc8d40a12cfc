/** A POST of a client that is handed to who holds the client's stream. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Place } from '../../shared/place.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { fail } from '../exchange/failure.ts'
import { RawSink } from '../exchange/raw-sink.ts'
import type { UpstreamCall } from '../upstream/upstream.ts'
import type { HopClient } from './hop-client.ts'

/** A message is taken or refused at once; who does neither for so long is in trouble. In milliseconds. */
const TIMEOUT_MS = 30_000

/** Hands it over as one of the principal that was found here, and the answer back. */
export function handOver(
  hop: Pick<HopClient, 'forward'>,
  place: Place,
  serverId: string,
  exchange: Exchange,
): void {
  const { headers, body, target, principal } = exchange.request
  let sink: RawSink | undefined
  const timer = setTimeout(() => {
    call.abort()
    const message = 'the replica that holds the stream of this session does not take the message'
    if (sink === undefined)
      fail(exchange, new AdapterError('ADAPTER_UPSTREAM_TIMEOUT', message), null)
    else exchange.reset()
  }, TIMEOUT_MS)
  const listener = {
    head: (status: number, answered: HeaderList) => {
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
  const request = { kind: 'messages', serverId, headers, target, principal } as const
  const call: UpstreamCall = hop.forward(place, request, body, listener)
  exchange.onAbort(() => {
    clearTimeout(timer)
    call.abort()
  })
}
