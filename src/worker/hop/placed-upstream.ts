/**
 * An upstream whose sessions live on connections: each is here, or on another worker or replica, and its id says where. What belongs elsewhere is asked for
 * there, so that the rest of the adapter need not know.
 */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { formatPlacedId, parsePlacedId } from '../../shared/place.ts'
import type { Place } from '../../shared/place.ts'
import type {
  AnswerListener,
  Upstream,
  UpstreamCall,
  UpstreamRequest,
} from '../upstream/upstream.ts'
import type { HopClient } from './hop-client.ts'
import { answerLost } from './lost-session.ts'

const SESSION_HEADER = 'mcp-session-id'

/** What it is made of. */
export interface PlacedUpstreamParts {
  readonly serverId: string
  /** This worker's own connections. */
  readonly local: Upstream
  /** This worker. */
  readonly place: Place
  readonly hop: Pick<HopClient, 'forward'>
}

/** See the file comment. */
export class PlacedUpstream implements Upstream {
  readonly #parts: PlacedUpstreamParts

  constructor(parts: PlacedUpstreamParts) {
    this.#parts = parts
  }

  call(request: UpstreamRequest, listener: AnswerListener): UpstreamCall {
    const { local, place, serverId, hop } = this.#parts
    const { headers } = request
    const at = headers.findIndex((text, index) => index % 2 === 0 && text === SESSION_HEADER)
    if (at === -1) return local.call(request, new PlacingListener(place, listener))
    const placed = parsePlacedId(headers[at + 1] ?? '')
    // Minted by another transport, before the configuration was changed.
    if (placed === undefined) return lostCall(listener)
    const own = { ...request, headers: headers.with(at + 1, placed.id) }
    if (placed.place.replicaId === place.replicaId && placed.place.worker === place.worker)
      return local.call(own, listener)
    const { method, headers: sent, isSafe, isFollowUp = false, body } = own
    return hop.forward(
      placed.place,
      { kind: 'upstream', serverId, method, headers: sent, isSafe, isFollowUp },
      body,
      listener,
    )
  }

  close(): Promise<void> {
    return this.#parts.local.close()
  }
}

/** Puts the place before the session id of an answer. */
class PlacingListener implements AnswerListener {
  readonly #place: Place
  readonly #listener: AnswerListener

  constructor(place: Place, listener: AnswerListener) {
    this.#place = place
    this.#listener = listener
  }

  head(status: number, headers: HeaderList): void {
    const placed = headers.map((text, index) =>
      index % 2 === 1 && headers[index - 1] === SESSION_HEADER
        ? formatPlacedId({ place: this.#place, id: text })
        : text,
    )
    this.#listener.head(status, placed)
  }

  data(chunk: Uint8Array): void {
    this.#listener.data(chunk)
  }

  end(): void {
    this.#listener.end()
  }

  error(...[error]: Parameters<AnswerListener['error']>): void {
    this.#listener.error(error)
  }
}

/** Answers that the session is lost, after the present turn. */
function lostCall(listener: AnswerListener): UpstreamCall {
  let isOver = false
  process.nextTick(() => {
    if (!isOver) answerLost(listener, () => !isOver)
  })
  return {
    abort: () => {
      isOver = true
    },
    pause: () => {},
    resume: () => {},
  }
}
