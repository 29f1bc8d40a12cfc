/** What takes an upstream's answer: as it comes (`RawSink`), as rewritten JSON (`JsonSink`), or as an event stream with single messages rewritten (`SseSink`). */
import type { AdapterError } from '../../shared/errors.ts'

/** Takes the body of one answer. */
export interface AnswerSink {
  data(chunk: Uint8Array): void
  /** The upstream finished properly. */
  end(): void
  /** The upstream's answer broke off. */
  error(error: AdapterError): void
  /** The client went away. */
  abandon(): void
}
