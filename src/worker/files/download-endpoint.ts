/** `/artifacts/<server>/<session>/<artifact>/<filename>`: one artifact to whoever holds its signed URL, or its session id in the header. */
import { close } from 'node:fs'

import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { DATA_HEADERS } from '../../shared/data-headers.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import type { FileStore, OpenItemFd } from '../../shared/files/file-store.ts'
import { UnsafePathError } from '../../shared/files/layout.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { parseArtifactId, parseSessionId, type ArtifactId } from '../../shared/ids.ts'
import type { SessionOwners } from '../../shared/principals.ts'
import { hasDownloadSignature, type UrlSigner } from '../../shared/signing.ts'
import type { ArtifactRecord, FileRef, SessionKey } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'
import { type Exchange } from '../exchange/exchange.ts'
import { decideRange, isNotModified } from './byte-range.ts'
import { asAdapterError, errnoOf } from './file-errors.ts'

/** What the endpoint works with. */
export interface DownloadServices {
  readonly config: {
    readonly core: Pick<Config['core'], 'allowArtifactsDownload'>
    readonly servers: readonly Pick<ServerConfig, 'id'>[]
  }
  readonly store: StateStore
  readonly files: FileStore
  readonly signer: UrlSigner
  /** Says whose a session is. */
  readonly owners: SessionOwners
  /** Hears of every request when its answer begins. */
  readonly onOutcome?: (outcome: DownloadOutcome) => void
}

/** How a download was answered, for logs and metrics. */
export interface DownloadOutcome {
  /** Null when the path names no configured server. */
  readonly serverId: string | null
  readonly result: DownloadResult
  readonly authMode: 'signed_url' | 'session_context'
  /** Bytes of the file that are sent, if the client takes them. */
  readonly bytes: number
  readonly seconds: number
  /** Absent when it was a success. */
  readonly error?: AdapterError
}

type DownloadResult =
  | 'success'
  | 'session_mismatch'
  | 'not_found'
  | 'file_missing'
  | 'filename_mismatch'
  | 'persistence_unavailable'
  | 'expired'
  | 'refused'
  | 'error'

/** A refusal of ours, more precise than its code. */
class DownloadError extends AdapterError {
  readonly result: DownloadResult

  constructor(code: ErrorCode, message: string, result: DownloadResult, cause?: unknown) {
    super(code, message, cause === undefined ? {} : { cause })
    this.result = result
  }
}

interface Target {
  readonly key: SessionKey
  readonly artifactId: ArtifactId
  /** Percent-decoded. */
  readonly filename: string
  readonly query: URLSearchParams
}

const JSON_HEADERS = ['content-type', 'application/json', ...DATA_HEADERS] as const

/** See the file comment. */
export class DownloadEndpoint {
  readonly #services: DownloadServices

  constructor(services: DownloadServices) {
    this.#services = services
  }

  /** Answers a request of route `artifact`, sooner or later; never throws. */
  handle(exchange: Exchange): void {
    const startedAtMs = performance.now()
    this.#serve(exchange)
      .then((bytes) => this.#tell(exchange, startedAtMs, { result: 'success', bytes }))
      .catch((cause: unknown) => {
        const error = asAdapterError(cause)
        this.#tell(exchange, startedAtMs, { result: resultOf(error), bytes: 0, error })
        refuse(exchange, error)
      })
  }

  /** Answers how many bytes of the file are sent. */
  async #serve(exchange: Exchange): Promise<number> {
    const { config, store } = this.#services
    if (!config.core.allowArtifactsDownload) throw unknownArtifact('there is nothing here')
    const { method } = exchange.request
    if (method !== 'GET' && method !== 'HEAD') {
      throw new AdapterError('ADAPTER_METHOD_NOT_ALLOWED', 'use GET or HEAD here')
    }
    const target = this.#readTarget(exchange)
    await this.#authorize(exchange, target)
    const record = await store.readArtifact(target.key, target.artifactId)
    if (record?.filename !== target.filename) {
      throw noArtifact(record === undefined ? 'not_found' : 'filename_mismatch')
    }
    const file = await this.#open(
      { ...target.key, kind: 'artifacts', id: record.artifactId },
      record,
    )
    return answer(exchange, record, file)
  }

  #readTarget(exchange: Exchange): Target {
    const { target, serverIndex } = exchange.request
    const server = this.#services.config.servers[serverIndex]
    const [path = '', ...query] = target.split('?')
    const [, , , session = '', artifact = '', ...name] = path.split('/')
    const sessionId = parseSessionId(session)
    const artifactId = parseArtifactId(artifact)
    const filename = decodeOrUndefined(name.join('/'))
    if (!server || !sessionId || !artifactId || !filename) {
      throw unknownArtifact('there is no such artifact')
    }
    return {
      key: { serverId: server.id, sessionId },
      artifactId,
      filename,
      query: new URLSearchParams(query.join('?')),
    }
  }

  /**
   * A signature decides alone when there is one. The session id counts in the header only: URLs end up in logs and histories. It must be the caller's
   * own session; those of others hold nothing that they could see.
   */
  async #authorize(
    exchange: Exchange,
    { key, artifactId, filename, query }: Target,
  ): Promise<void> {
    if (!hasDownloadSignature(query)) {
      if (headerValue(exchange.request.headers, 'mcp-session-id') !== key.sessionId)
        throw refused(
          'use the signed URL of this artifact, or its session in Mcp-Session-Id',
          'session_mismatch',
        )
      const view = await this.#services.store.readSession(key)
      const owner = view && this.#services.owners.ownerOf(view.record)
      if (owner === undefined || owner !== exchange.request.principal)
        throw noArtifact('session_mismatch')
      return
    }
    const now = Math.floor(Date.now() / 1000)
    const target = { ...key, artifactId, filename }
    const verified = this.#services.signer.verifyDownload(target, query, now)
    if (verified.ok) return
    if (verified.reason === 'expired')
      throw unknownArtifact('this download URL has expired', 'expired')
    throw refused('this is not a download URL that was issued here', 'refused')
  }

  async #open(ref: FileRef, record: ArtifactRecord): Promise<OpenItemFd> {
    const file = await this.#services.files
      .openItemFd(ref, record.filename)
      .catch((error: unknown) => {
        const isGone = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR'
        // A link in the file's place is nothing that we stored.
        if (!isGone && !(error instanceof UnsafePathError)) throw error
        const message = "the artifact's file is missing"
        throw new DownloadError('ADAPTER_ARTIFACT_UNKNOWN', message, 'file_missing', error)
      })
    if (file.sizeBytes === record.sizeBytes) return file
    close(file.fd)
    // Its digest would not be the announced one.
    throw unknownArtifact("the artifact's file was changed after it was stored", 'file_missing')
  }

  #tell(
    exchange: Exchange,
    startedAtMs: number,
    how: Pick<DownloadOutcome, 'result' | 'bytes' | 'error'>,
  ): void {
    const { serverIndex, target } = exchange.request
    this.#services.onOutcome?.({
      serverId: this.#services.config.servers[serverIndex]?.id ?? null,
      authMode: target.includes('mcp_artifact_sig=') ? 'signed_url' : 'session_context',
      seconds: (performance.now() - startedAtMs) / 1_000,
      ...how,
    })
  }
}

function refuse(exchange: Exchange, error: AdapterError): void {
  exchange.noteRefusal?.(error)
  const isMethod = error.code === 'ADAPTER_METHOD_NOT_ALLOWED'
  const retry = error.status === 503 ? ['retry-after', '1'] : []
  const allow = isMethod ? ['allow', 'GET, HEAD'] : []
  exchange.respond(error.status, [...JSON_HEADERS, ...allow, ...retry], error.toJson())
}

function resultOf(error: AdapterError): DownloadResult {
  if (error instanceof DownloadError) return error.result
  return error.code === 'ADAPTER_STATE_UNAVAILABLE' ? 'persistence_unavailable' : 'error'
}

/** Takes over the open file; answers how many bytes of it are sent. */
function answer(exchange: Exchange, record: ArtifactRecord, file: OpenItemFd): number {
  const { headers, method } = exchange.request
  const version = { etag: `"${record.sha256}"`, mtimeMs: file.mtimeMs, sizeBytes: file.sizeBytes }
  const common = [
    'etag',
    version.etag,
    'last-modified',
    new Date(file.mtimeMs).toUTCString(),
    'cache-control',
    'private, no-cache',
    'accept-ranges',
    'bytes',
    'x-content-type-options',
    'nosniff',
    'content-security-policy',
    "default-src 'none'; frame-ancestors 'none'; sandbox",
    'referrer-policy',
    'no-referrer',
  ]
  const ifNoneMatch = headerValue(headers, 'if-none-match')
  const ifModifiedSince = headerValue(headers, 'if-modified-since')
  if (isNotModified(ifNoneMatch, ifModifiedSince, version)) {
    close(file.fd)
    exchange.respond(304, common)
    return 0
  }
  const headOnly = method === 'HEAD'
  // Range is defined for GET only.
  const range = headOnly ? undefined : headerValue(headers, 'range')
  const decision = decideRange(range, headerValue(headers, 'if-range'), version)
  if (decision === 'unsatisfiable') {
    close(file.fd)
    const unsatisfied = ['content-range', `bytes */${file.sizeBytes}`]
    exchange.respond(416, [...common, ...unsatisfied])
    return 0
  }
  const content = [...common, ...contentHeaders(record)]
  if (decision === 'whole') {
    const whole = { fd: file.fd, start: 0, length: file.sizeBytes, headOnly }
    exchange.sendFile(200, content, whole)
    return headOnly ? 0 : file.sizeBytes
  }
  const last = decision.start + decision.length - 1
  const partial = ['content-range', `bytes ${decision.start}-${last}/${file.sizeBytes}`]
  exchange.sendFile(206, [...content, ...partial], { fd: file.fd, ...decision, headOnly })
  return decision.length
}

/** Tools make these files from whatever they met on the web: a browser must save them, never show or run them. */
function contentHeaders(record: ArtifactRecord): HeaderList {
  const isMediaType = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/.test(record.mimeType)
  return [
    'content-type',
    isMediaType ? record.mimeType : 'application/octet-stream',
    'content-disposition',
    contentDisposition(record.filename),
  ]
}

/** RFC 6266: an ASCII fallback that can't end its quotes, and the name itself as RFC 8187 has it. */
export function contentDisposition(filename: string): string {
  const ascii = filename.replace(/[^\x20-\x7e]|["\\%]/gu, '_')
  const encoded = encodeURIComponent(filename.replace(/\p{Cs}/gu, '_')).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`
}

function noArtifact(result: DownloadResult): AdapterError {
  return unknownArtifact('there is no such artifact, or it has expired', result)
}

function unknownArtifact(message: string, result: DownloadResult = 'not_found'): AdapterError {
  return new DownloadError('ADAPTER_ARTIFACT_UNKNOWN', message, result)
}

function refused(message: string, result: DownloadResult): AdapterError {
  return new DownloadError('ADAPTER_DOWNLOAD_REFUSED', message, result)
}

function decodeOrUndefined(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
