/** What a held stream works with. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { Upstream } from '../upstream/upstream.ts'
import type { RootAnswers } from './root-answers.ts'

/** See the file comment. */
export interface HeldStreamOptions {
  readonly key: SessionKey
  readonly server: ServerConfig
  readonly upstream: Upstream
  readonly store: StateStore
  /** Names this worker as the holder of leases. */
  readonly holder: string
  readonly maxEventBytes: number
  /** Undefined where no upstream asks for roots. */
  readonly roots: RootAnswers | undefined
  readonly log: Log
  /** The upstream has no standalone stream. */
  readonly onAbsent: () => void
  /** Called once, when nothing is held any more. */
  readonly onClosed: () => void
}
