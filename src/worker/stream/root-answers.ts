/**
 * Answers `roots/list` of upstreams that have the session's directory for their only root (`upstream.session_root`). The request comes on the standalone
 * stream or on that of a POST's answer, to whichever replica reads it; the client never sees it.
 */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Log } from '../../shared/log.ts'
import { shortId } from '../../shared/redaction.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import { mayHoldRequest, rewriteMessages } from '../exchange/event-messages.ts'
import { isRooted } from '../session/rooted.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { answerRequest, type OnBehalf } from './own-requests.ts'

/** What roots are answered with. */
export interface RootAnswersOptions {
  /** The session's directory as a `file://` URI of the upstream's, made if need be. */
  readonly rootUri: (server: ServerConfig, key: SessionKey) => Promise<string>
  readonly log: Log
}

/** See the file comment. One per worker. */
export class RootAnswers {
  readonly #options: RootAnswersOptions

  constructor(options: RootAnswersOptions) {
    this.#options = options
  }

  /** What is left of an event for the client: the same event, or less, or undefined for nothing. Requests for roots in it get their answers. */
  take(
    event: Uint8Array,
    upstream: Upstream,
    onBehalf: OnBehalf | undefined,
  ): Uint8Array | undefined {
    if (onBehalf === undefined || !isRooted(onBehalf.server) || !mayHoldRequest(event)) return event
    return rewriteMessages(event, (message) => {
      if (message['method'] !== 'roots/list' || message['id'] === undefined) return message
      this.#answer(message['id'], upstream, onBehalf)
      return undefined
    })
  }

  #answer(id: unknown, upstream: Upstream, onBehalf: OnBehalf): void {
    const { rootUri, log } = this.#options
    const { server, record } = onBehalf
    const answer = async (): Promise<void> => {
      const uri = await rootUri(server, record)
      const roots = [{ uri, name: 'session' }]
      const status = await answerRequest(upstream, onBehalf, id, { roots })
      if (status >= 400) throw new Error(`the upstream answered ${status}`)
    }
    answer().catch((error: unknown) => {
      const about = { server: server.id, session: shortId(record.sessionId), err: error }
      log.warn(about, 'an upstream could not be told the root of its session')
    })
  }
}
