/** One request on its way to the holder of a connection, and its answer on the way back. */
import { AdapterError, ERRORS } from '../../shared/errors.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { OUTCOME_HEADER, PROOF_HEADER } from '../../shared/hop-seal.ts'
import type { Place } from '../../shared/place.ts'
import { withoutHeader } from '../upstream/forwarded-headers.ts'
import type { AnswerListener, UpstreamCall } from '../upstream/upstream.ts'
import type { HopEvents } from './hop-events.ts'
import { answerLost, holderFailed, holderLost } from './lost-session.ts'
import type { ReplicaDirectory } from './replica-directory.ts'

/** Largest error that a holder tells, in bytes. */
const MAX_ERROR_BYTES = 65_536

/** A process that ended is known to be gone within a tenth of a second, a machine after three: waited for, as nothing was sent. In milliseconds. */
const GONE_WAIT_MS = 4_000

/** A request that is under way to a replica. */
export interface SentHop {
  readonly call: UpstreamCall
  /** Whether an answer with this proof is from a replica, for this request. */
  readonly isProof: (proof: string) => boolean
}

/** Who is told what becomes of a call besides its answer. */
interface HopCallOwner {
  /** Undefined where nobody counts. */
  readonly events: HopEvents | undefined
  /** The session is given up because its replica is gone. */
  readonly onGone: () => void
  /** The call is given up after it was waited for so long; `cut` ends it, once. */
  readonly onSilence: (waitedMs: number, cut: () => void) => void
}

/** What a call needs of the client. */
export interface HopSender {
  readonly directory: ReplicaDirectory
  /** Sends `bytes` to a replica at `url`, and tells `by` of the answer, and of the replica's end; undefined where nothing is forwarded. */
  send(place: Place, url: string, bytes: Uint8Array, by: HopCall): SentHop | undefined
  /** The call is over, or not under way any more. */
  done(replicaId: string, call: HopCall): void
}

/** See the file comment. */
export class HopCall implements UpstreamCall, AnswerListener {
  readonly #client: HopSender
  readonly #place: Place
  readonly #bytes: Uint8Array
  readonly #listener: AnswerListener
  readonly #owner: HopCallOwner
  #sent: SentHop | undefined
  readonly #startedAtMs = performance.now()
  #isPaused = false
  #isAborted = false
  #phase: 'finding' | 'waiting' | 'relaying' | 'failing' | 'over' = 'finding'
  #errorParts: Uint8Array[] = []
  #errorBytes = 0

  constructor(
    client: HopSender,
    place: Place,
    bytes: Uint8Array,
    listener: AnswerListener,
    owner: HopCallOwner,
  ) {
    this.#owner = owner
    this.#client = client
    this.#place = place
    this.#bytes = bytes
    this.#listener = listener
  }

  /** Never calls the listener before it returns. */
  start(): void {
    const found = this.#client.directory.find(this.#place.replicaId)
    if (typeof found === 'string') this.#send(found)
    else {
      void Promise.resolve(found).then((url) => {
        if (this.#phase !== 'finding') return
        if (url === null) this.#gone()
        else this.#send(url)
      })
    }
  }

  abort(waitedMs?: number): void {
    this.#isAborted = true
    if (this.#phase === 'over') return
    this.#finish()
    const call = this.#sent?.call
    if (call === undefined) return
    // It is the holder that knows whether its upstream said anything, and whose breaker it is.
    if (waitedMs === undefined) call.abort()
    else this.#owner.onSilence(waitedMs, () => call.abort())
  }

  pause(): void {
    this.#isPaused = true
    this.#sent?.call.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.#sent?.call.resume()
  }

  head(status: number, headers: HeaderList): void {
    if (this.#phase !== 'waiting') return
    if (this.#sent?.isProof(headerValue(headers, PROOF_HEADER) ?? '') !== true) {
      // Also what a replica says that takes this one for a stranger: it tells those nothing.
      this.#cut(
        holderFailed(
          `what answers for the replica that holds this session is no replica, or refuses this one (${status})`,
        ),
      )
      return
    }
    switch (headerValue(headers, OUTCOME_HEADER) ?? '') {
      case 'answer':
        this.#phase = 'relaying'
        this.#owner.events?.answered('out', (performance.now() - this.#startedAtMs) / 1_000)
        this.#owner.events?.ended('out', 'success')
        this.#listener.head(
          status,
          withoutHeader(withoutHeader(headers, PROOF_HEADER), OUTCOME_HEADER),
        )
        return
      case 'error':
        this.#phase = 'failing'
        return
      case 'gone':
        this.#sent.call.abort()
        this.#lost()
        return
      default:
        this.#cut(
          status === 503
            ? new AdapterError(
                'ADAPTER_STOPPING',
                'the replica that holds this session is stopping or busy; repeat the request shortly',
              )
            : holderFailed('the worker that holds this session ended'),
        )
    }
  }

  data(chunk: Uint8Array): void {
    if (this.#phase === 'relaying') this.#listener.data(chunk)
    else if (this.#phase === 'failing') {
      this.#errorBytes += chunk.byteLength
      if (this.#errorBytes <= MAX_ERROR_BYTES) this.#errorParts.push(new Uint8Array(chunk))
    }
  }

  end(): void {
    if (this.#phase === 'relaying') {
      this.#finish()
      this.#listener.end()
    } else if (this.#phase === 'failing') {
      this.#fail(readHopError(Buffer.concat(this.#errorParts)))
    }
  }

  error(error: AdapterError): void {
    if (this.#phase === 'over') return
    if (this.#phase !== 'waiting') {
      this.#fail(this.#phase === 'relaying' ? incomplete(error) : error)
      return
    }
    if (error.code === 'ADAPTER_STOPPING') this.#fail(error)
    else if (this.#sent?.call.hasLeft === false) this.#unreached(error)
    else this.#fail(holderLost(error))
  }

  /** The replica has ended, or nobody hears of it any more. */
  holderGone(): void {
    if (this.#phase === 'over') return
    if (this.#phase === 'finding') this.#gone()
    else if (this.#sent?.call.hasLeft === false) {
      // It is still being connected, or tried once more.
      this.#sent.call.abort()
      this.#gone()
    } else this.#cut(holderLost())
  }

  #send(url: string): void {
    this.#phase = 'waiting'
    this.#sent = this.#client.send(this.#place, url, this.#bytes, this)
    if (this.#sent === undefined) process.nextTick(() => this.#lost())
    else if (this.#isPaused) this.#sent.call.pause()
  }

  /** Nobody has seen the request: when the replica turns out to be gone, the session is, and its client may open another at once. */
  #unreached(cause: AdapterError): void {
    this.#client.done(this.#place.replicaId, this)
    this.#phase = 'finding'
    void this.#client.directory.isGoneWithin(this.#place.replicaId, GONE_WAIT_MS).then((isGone) => {
      if (this.#phase !== 'finding') return
      if (isGone) this.#lost()
      else
        this.#fail(
          holderFailed('the replica that holds this session can not be reached at present', cause),
        )
    })
  }

  /** The replica has ended, or is taken for dead. */
  #gone(): void {
    this.#owner.onGone()
    this.#lost()
  }

  #lost(): void {
    if (this.#phase === 'over') return
    this.#owner.events?.ended('out', 'holder_lost')
    this.#finish()
    answerLost(this.#listener, () => !this.#isAborted)
  }

  #cut(error: AdapterError): void {
    this.#sent?.call.abort()
    this.#fail(error)
  }

  #fail(error: AdapterError): void {
    if (this.#phase === 'over') return
    if (this.#phase !== 'relaying') this.#owner.events?.ended('out', 'error')
    this.#finish()
    this.#listener.error(error)
  }

  #finish(): void {
    this.#phase = 'over'
    this.#errorParts = []
    this.#client.done(this.#place.replicaId, this)
  }
}

function incomplete(cause: AdapterError): AdapterError {
  return holderFailed('the replica that holds this session cut its answer short', cause)
}

/** The error that a holder told, as it would be here. */
function readHopError(bytes: Buffer): AdapterError {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    value = undefined
  }
  if (typeof value === 'object' && value !== null && 'code' in value && 'message' in value) {
    const { code, message } = value
    const retryAfter = 'retryAfterSeconds' in value ? value.retryAfterSeconds : undefined
    if (isErrorCode(code) && typeof message === 'string')
      return new AdapterError(
        code,
        message,
        typeof retryAfter === 'number' ? { retryAfterSeconds: retryAfter } : {},
      )
  }
  return holderFailed('the replica that holds this session failed')
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERRORS, code)
}
