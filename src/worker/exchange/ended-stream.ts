/** For a client that asks for a long-lived stream while this replica stops: a stream that is over. It opens another, which reaches another replica. */
import type { Exchange } from './exchange.ts'

export function answerEndedStream(exchange: Exchange): void {
  exchange.respond(
    200,
    ['content-type', 'text/event-stream', 'cache-control', 'no-cache'],
    // A stream with nothing at all is an error to some clients.
    ':\n\n',
  )
}
