/** `<upload_path>/<server_id>?mcp_upload_…`: files from clients into a session. `POST` takes a form, `PUT` one bare file, `GET` shows a form to a person. */
import { headerValue } from '../../shared/frames/header-list.ts'
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { UploadGrant, UrlSigner } from '../../shared/signing.ts'
import type { SessionKey, UploadRecord } from '../../shared/state/records.ts'
import type { SessionView } from '../../shared/state/store.ts'
import { type Exchange } from '../exchange/exchange.ts'
import { BodyCancelledError } from './body-port.ts'
import { asAdapterError } from './file-errors.ts'
import { PAGE_HEADERS, renderUploaded, renderUploadError, renderUploadForm } from './upload-page.ts'
import { readUploadForm } from './upload-request.ts'
import { sessionGone } from './upload-reservation.ts'
import { ticketUsed, UploadTransfer, type TransferServices } from './upload-transfer.ts'

/** What the endpoint works with. */
export interface UploadServices extends TransferServices {
  readonly config: Pick<Config, 'uploads'> & {
    readonly servers: readonly Pick<ServerConfig, 'id'>[]
  }
  readonly signer: UrlSigner
  /** Hears of every answered request: its files, or the error with its cause. */
  readonly onOutcome?: (outcome: UploadOutcome) => void
  /** Hears of every URL that is shown. */
  readonly onCredential?: (credential: UploadCredential) => void
  /** Longest silence of a client; default 60 s. */
  readonly idleTimeoutMs?: number
  /** Longest duration of a request body; default 1 h. */
  readonly maxDurationMs?: number
}

/** How an upload request ended, for logs and metrics. */
export type UploadOutcome =
  | { readonly ok: true; readonly serverId: string; readonly files: readonly UploadRecord[] }
  | { readonly ok: false; readonly serverId: string | null; readonly error: AdapterError }

/** What an upload URL that was shown is worth. */
export interface UploadCredential {
  readonly serverId: string
  readonly result:
    | 'accepted'
    | 'disabled'
    | 'missing_fields'
    | 'expired'
    | 'bad_signature'
    | 'replay_or_invalid'
}

const IDLE_TIMEOUT_MS = 60_000
const MAX_DURATION_MS = 3_600_000
/** Uploads that one worker receives at once: each may hold about 1 MiB. */
const MAX_CONCURRENT = 512
const JSON_HEADERS = ['content-type', 'application/json', ...DATA_HEADERS] as const

/** See the file comment. */
export class UploadEndpoint {
  readonly #services: UploadServices
  readonly #active = new Set<SessionKey>()

  constructor(services: UploadServices) {
    this.#services = services
  }

  /** Sessions that are being sent files now: they are not idle. */
  activeSessions(): readonly SessionKey[] {
    return [...this.#active]
  }

  /** Answers a request of route `upload`, sooner or later; never throws. */
  handle(exchange: Exchange): void {
    this.#serve(exchange).catch((error: unknown) => this.#refuse(exchange, error))
  }

  async #serve(exchange: Exchange): Promise<void> {
    const { method, target } = exchange.request
    if (method !== 'GET' && method !== 'POST' && method !== 'PUT') {
      throw new AdapterError('ADAPTER_METHOD_NOT_ALLOWED', 'use POST, PUT or GET here')
    }
    const query = queryOf(target)
    const grant = this.#verify(exchange, query)
    const view = await this.#requireSession(grant)
    if (method === 'GET') this.#showForm(exchange, grant)
    else await this.#transfer(exchange, query, grant, view)
  }

  #verify(exchange: Exchange, query: URLSearchParams): UploadGrant {
    const server = this.#services.config.servers[exchange.request.serverIndex]
    if (server === undefined) {
      throw new AdapterError('ADAPTER_ROUTE_UNKNOWN', 'there is no such server to upload for')
    }
    const tell = (result: UploadCredential['result']): void =>
      this.#services.onCredential?.({ serverId: server.id, result })
    if (!this.#services.config.uploads.enabled) {
      tell('disabled')
      throw new AdapterError('ADAPTER_UPLOADS_DISABLED', 'uploads are turned off')
    }
    const now = Math.floor(Date.now() / 1000)
    const verified = this.#services.signer.verifyUpload(server.id, query, now)
    if (verified.ok) return verified.grant
    tell(verified.reason === 'malformed' ? 'missing_fields' : verified.reason)
    if (verified.reason === 'expired') {
      throw new AdapterError(
        'ADAPTER_UPLOAD_TICKET_EXPIRED',
        'this upload URL has expired: ask for a new one',
      )
    }
    throw new AdapterError(
      'ADAPTER_UPLOAD_TICKET_INVALID',
      'this is not an upload URL that was issued here: use it exactly as it was given',
    )
  }

  /** The nonce first: whoever used a URL up should hear that, whatever became of the session. */
  async #requireSession(grant: UploadGrant): Promise<SessionView> {
    const { store } = this.#services
    const [isUsed, view] = await Promise.all([
      store.isNonceUsed(keyOf(grant), grant.nonce),
      store.readSession(keyOf(grant)),
    ])
    const isGood = !isUsed && view !== undefined
    this.#services.onCredential?.({
      serverId: grant.serverId,
      result: isGood ? 'accepted' : 'replay_or_invalid',
    })
    if (isUsed) throw ticketUsed()
    if (view === undefined) throw sessionGone()
    return view
  }

  #showForm(exchange: Exchange, grant: UploadGrant): void {
    const { maxFileBytes, requireSha256 } = this.#services.config.uploads
    exchange.respond(200, PAGE_HEADERS, renderUploadForm({ ...grant, maxFileBytes, requireSha256 }))
  }

  async #transfer(
    exchange: Exchange,
    query: URLSearchParams,
    grant: UploadGrant,
    view: SessionView,
  ): Promise<void> {
    const { config, idleTimeoutMs, maxDurationMs } = this.#services
    const { maxFileBytes, requireSha256 } = config.uploads
    const form = readUploadForm(exchange.request, query, maxFileBytes)
    if (this.#active.size >= MAX_CONCURRENT) {
      throw new AdapterError('ADAPTER_OVERLOADED', 'too many uploads are under way: try again')
    }
    const key = keyOf(grant)
    this.#active.add(key)
    try {
      await this.#activate(key, view)
      const limits = {
        maxFileBytes,
        requireSha256,
        idleTimeoutMs: idleTimeoutMs ?? IDLE_TIMEOUT_MS,
        maxDurationMs: maxDurationMs ?? MAX_DURATION_MS,
      }
      const transfer = new UploadTransfer(this.#services, limits, grant)
      this.#confirm(exchange, grant, await transfer.run(exchange, form))
    } finally {
      this.#active.delete(key)
    }
  }

  async #activate(key: SessionKey, view: SessionView): Promise<void> {
    if (view.state === 'active') return
    switch (await this.#services.store.reviveSession(key)) {
      case 'active':
        return
      case 'gone':
        throw sessionGone()
      case 'at_capacity':
        throw new AdapterError(
          'ADAPTER_SESSION_LIMIT',
          'the session sleeps and can not be resumed now: too many sessions are active',
        )
    }
  }

  #confirm(exchange: Exchange, grant: UploadGrant, records: readonly UploadRecord[]): void {
    const prefix = `${this.#services.config.uploads.uriScheme}sessions/${grant.sessionId}/`
    const handleOf = (record: UploadRecord) => prefix + record.uploadId
    this.#services.onOutcome?.({ ok: true, serverId: grant.serverId, files: records })
    if (wantsHtml(exchange)) {
      const files = records.map((record) => ({ ...record, handle: handleOf(record) }))
      exchange.respond(200, PAGE_HEADERS, renderUploaded(files))
      return
    }
    const uploads = records.map((record) => ({
      upload_handle: handleOf(record),
      ...describe(record),
    }))
    const [only, ...others] = records
    exchange.respond(
      200,
      JSON_HEADERS,
      JSON.stringify({
        server_id: grant.serverId,
        session_id: grant.sessionId,
        uploads,
        upload_handles: records.map(handleOf),
        count: records.length,
        ...(only !== undefined && others.length === 0
          ? { upload_handle: handleOf(only), upload: describe(only) }
          : {}),
      }),
    )
  }

  #refuse(exchange: Exchange, cause: unknown): void {
    // The client left: nobody to tell, and no failure of ours.
    if (cause instanceof BodyCancelledError && !exchange.isOpen) return
    const error = asAdapterError(cause)
    const server = this.#services.config.servers[exchange.request.serverIndex]
    exchange.noteRefusal?.(error)
    this.#services.onOutcome?.({ ok: false, serverId: server?.id ?? null, error })
    const isMethod = error.code === 'ADAPTER_METHOD_NOT_ALLOWED'
    const retry = error.status === 503 ? ['retry-after', '1'] : []
    const allow = isMethod ? ['allow', 'GET, POST, PUT'] : []
    if (wantsHtml(exchange)) {
      const body = renderUploadError(error.code, error.message)
      exchange.respond(error.status, [...PAGE_HEADERS, ...allow, ...retry], body)
    } else {
      exchange.respond(error.status, [...JSON_HEADERS, ...allow, ...retry], error.toJson())
    }
  }
}

function keyOf(grant: UploadGrant): SessionKey {
  return { serverId: grant.serverId, sessionId: grant.sessionId }
}

function describe(record: UploadRecord): Readonly<Record<string, unknown>> {
  return {
    upload_id: record.uploadId,
    filename: record.filename,
    mime_type: record.mimeType,
    size_bytes: record.sizeBytes,
    sha256: record.sha256,
  }
}

/** Browsers name text/html first; clients that take anything get JSON. */
function wantsHtml(exchange: Exchange): boolean {
  const accept = headerValue(exchange.request.headers, 'accept')?.toLowerCase() ?? ''
  const html = accept.indexOf('text/html')
  const json = accept.indexOf('application/json')
  return html !== -1 && (json === -1 || html < json)
}

/** The query of a request target as received. */
export function queryOf(target: string): URLSearchParams {
  const mark = target.indexOf('?')
  return new URLSearchParams(mark === -1 ? '' : target.slice(mark + 1))
}
