/** Answers of the listener's own, for which no worker is asked: health, metrics, and metadata of the protected resource. */
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { EXPOSITION_TYPE } from '../../shared/telemetry/telemetry-messages.ts'
import type { ReadHeaders } from '../admission/headers.ts'
import type { Route } from '../routes.ts'
import type { Gate } from './gate.ts'

/** Which report is asked for. */
export type Probe = Extract<Route, { kind: 'health' }>['probe']

/** An answer, whole. */
export interface OwnAnswer {
  readonly status: number
  readonly headers: HeaderList
  readonly body: string
}

/** Where they come from. */
export interface OwnAnswerSources {
  /** `isTrusted`: somebody asks who is known, and may see addresses and paths. */
  health(probe: Probe, isTrusted: boolean): Promise<{ status: number; body: string }>
  /** All metrics as text; undefined when they are not to be had now. */
  readonly metrics?: () => Promise<string | undefined>
}

/** Requests for health whose token is being judged at a time; further ones are told what anybody is. */
const MAX_JUDGED = 64

const METADATA_HEADERS = [
  'content-type',
  'application/json',
  'cache-control',
  'max-age=300',
  'x-content-type-options',
  'nosniff',
] as const
const JSON_HEADERS = [...DATA_HEADERS, 'content-type', 'application/json'] as const
const METRICS_HEADERS = [...DATA_HEADERS, 'content-type', EXPOSITION_TYPE] as const

/** See the file comment. */
export class OwnAnswers {
  readonly #sources: OwnAnswerSources
  readonly #gate: Gate
  #judged = 0

  constructor(sources: OwnAnswerSources, gate: Gate) {
    this.#sources = sources
    this.#gate = gate
  }

  async health(probe: Probe, headers: ReadHeaders): Promise<OwnAnswer> {
    const isTrusted = probe === 'healthz' && (await this.#isKnown(headers))
    return { ...(await this.#sources.health(probe, isTrusted)), headers: JSON_HEADERS }
  }

  async metrics(): Promise<OwnAnswer> {
    const text = await this.#sources.metrics?.()
    return { status: text === undefined ? 503 : 200, headers: METRICS_HEADERS, body: text ?? '' }
  }

  /** RFC 9728. */
  async metadata(serverIndex: number, headers: ReadHeaders): Promise<OwnAnswer> {
    return {
      status: 200,
      headers: METADATA_HEADERS,
      body: this.#gate.metadata(serverIndex, headers),
    }
  }

  /** Whether somebody asks who may see more; not found out while too many tokens are being judged. */
  async #isKnown(headers: ReadHeaders): Promise<boolean> {
    if (this.#judged >= MAX_JUDGED) return false
    this.#judged++
    try {
      return await this.#gate.knows(headers)
    } finally {
      this.#judged--
    }
  }
}
