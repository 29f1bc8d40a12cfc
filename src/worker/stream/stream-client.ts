/** A client's own GET, as a held stream sees it. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { SessionRecord } from '../../shared/state/records.ts'
import type { GetListener, GetPlan } from './upstream-get.ts'

/** See the file comment. It gets the answer of the upstream's GET, whoever sent that and when. */
export interface StreamClient extends GetListener {
  /** The session as it is now. */
  readonly record: SessionRecord
  /** Headers of the client's request. */
  readonly received: HeaderList
  readonly plan: GetPlan
  /** Ends the client's stream, so that it opens another. */
  close(): void
}
