/** Real sockets, files and state for the tests of the file endpoints: an `Exchange` over node:http stands in for the primary. */
/* oxlint-disable no-await-in-loop -- tests wait for one thing after another */
import { createReadStream } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Test } from 'tap'

import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintSessionId } from '../../src/shared/ids.ts'
import { mintNonce, UrlSigner } from '../../src/shared/signing.ts'
import type { SessionKey, SessionRecord } from '../../src/shared/state/records.ts'
import type { StateStore, StorePolicy } from '../../src/shared/state/store.ts'
import type { BodyListener, Exchange, RequestHead } from '../../src/worker/exchange/exchange.ts'
import { openDigestPool, type DigestPool } from '../../src/worker/files/digest-pool.ts'
import { DownloadEndpoint } from '../../src/worker/files/download-endpoint.ts'
import {
  UploadEndpoint,
  type UploadOutcome,
  type UploadServices,
} from '../../src/worker/files/upload-endpoint.ts'
import { openMemoryStore } from '../support/memory-store.ts'

export const POLICY: StorePolicy = {
  maxActiveSessions: null,
  idleTtlMs: null,
  allowRevival: true,
  tombstoneTtlMs: 86_400_000,
  maxSessionBytes: null,
  maxTotalBytes: null,
  maxArtifactsPerSession: null,
  uploadTtlMs: null,
  artifactTtlMs: null,
  pendingGraceMs: 60_000,
  evictionPolicy: 'lru_uploads_then_artifacts',
  maxInFlightPerSession: null,
  callLeaseMs: 15_000,
  streamLeaseMs: 3_000,
}

/** A store in memory that is closed with the test. `clock.nowMs` can be moved. */
export function openTestStore(
  t: Test,
  policy: Partial<StorePolicy> = {},
  clock: () => number = Date.now,
): StateStore {
  const store = openMemoryStore({ ...POLICY, ...policy }, clock)
  t.teardown(() => store.close())
  return store
}

export function sessionRecord(serverId: string): SessionRecord {
  return {
    serverId,
    sessionId: mintSessionId(),
    schemaVersion: 1,
    createdAtMs: Date.now(),
    protocolVersion: '2025-11-25',
    upstreamSessionId: null,
    initializeParams: {},
    upstreamHas: { tools: true, resources: false },
  }
}

export async function tempRoot(t: Test): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'files-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  return root
}

/** All files under a directory, as relative paths. */
export async function tree(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .toSorted()
}

export interface Rig {
  readonly origin: string
  readonly port: number
  readonly store: StateStore
  readonly files: FileStore
  readonly signer: UrlSigner
  readonly digests: DigestPool
  readonly uploads: UploadEndpoint
  readonly outcomes: UploadOutcome[]
  readonly key: SessionKey
  /** Path and query of a fresh upload URL. */
  uploadTarget(options?: { key?: SessionKey; expiresInSeconds?: number }): string
}

export interface RigOptions {
  readonly policy?: Partial<StorePolicy>
  readonly uploads?: Partial<UploadServices['config']['uploads']>
  readonly services?: Partial<UploadServices>
  readonly allowDownloads?: boolean
  readonly wrapStore?: (store: StateStore) => StateStore
  readonly root?: string
}

/** Endpoints for one server `srv` with one active session, behind a listening socket. */
export async function startRig(t: Test, options: RigOptions = {}): Promise<Rig> {
  const root = options.root ?? (await tempRoot(t))
  const inner = openTestStore(t, options.policy)
  const store = options.wrapStore?.(inner) ?? inner
  const files = new FileStore({ root, atomicWrites: true })
  const signer = new UrlSigner({ secrets: ['test secret'] })
  const digests = openDigestPool()
  t.teardown(() => digests.close())
  const key = sessionRecord('srv')
  await inner.openSession(key)
  const outcomes: UploadOutcome[] = []
  const config = {
    core: { allowArtifactsDownload: options.allowDownloads ?? true },
    servers: [{ id: 'srv' }],
    uploads: {
      enabled: true,
      maxFileBytes: 10 * 1024 * 1024,
      ttlSeconds: 120,
      requireSha256: false,
      uriScheme: 'upload://',
      ...options.uploads,
    },
  }
  const services = { config, store, files, signer, digests }
  const onOutcome = (outcome: UploadOutcome) => outcomes.push(outcome)
  const uploads = new UploadEndpoint({ ...services, onOutcome, ...options.services })
  const downloads = new DownloadEndpoint(services)
  const port = await listen(t, (exchange) =>
    exchange.request.route === 'upload' ? uploads.handle(exchange) : downloads.handle(exchange),
  )
  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    store,
    files,
    signer,
    digests,
    uploads,
    outcomes,
    key,
    uploadTarget({ key: other = key, expiresInSeconds = 60 } = {}) {
      const expiresAtSeconds = Math.floor(Date.now() / 1000) + expiresInSeconds
      const { serverId, sessionId } = other
      const query = signer.signUpload({ serverId, sessionId, expiresAtSeconds, nonce: mintNonce() })
      return `/upload/srv?${query}`
    },
  }
}

async function listen(t: Test, handle: (exchange: Exchange) => void): Promise<number> {
  const server = createServer((request, response) => handle(new HttpExchange(request, response)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('it is not a TCP socket')
  return address.port
}

class HttpExchange implements Exchange {
  readonly request: RequestHead
  readonly #in: IncomingMessage
  readonly #out: ServerResponse
  #open = true

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#in = request
    this.#out = response
    const target = request.url ?? '/'
    const [, kind, server] = target.split(/[/?]/)
    this.request = {
      route: kind === 'upload' ? 'upload' : 'artifact',
      serverIndex: server === 'srv' ? 0 : -1,
      method: request.method ?? 'GET',
      target,
      headers: request.rawHeaders.map((text, i) => (i % 2 === 0 ? text.toLowerCase() : text)),
      body: null,
    }
    response.on('close', () => {
      this.#open = false
    })
  }

  get isOpen(): boolean {
    return this.#open
  }

  readBody(listener: BodyListener): void {
    this.#in.on('data', (chunk: Buffer) => {
      if (this.#open) listener.data(new Uint8Array(chunk))
    })
    this.#in.on('end', () => {
      if (this.#open) listener.end()
    })
    this.#in.on('error', () => undefined)
  }

  pauseBody(): void {
    this.#in.pause()
  }

  resumeBody(): void {
    this.#in.resume()
  }

  onAbort(listener: () => void): void {
    this.#out.once('close', () => {
      if (!this.#out.writableEnded) listener()
    })
  }

  respond(status: number, headers: readonly string[], body: Uint8Array | string = ''): void {
    if (!this.#open) return
    this.#open = false
    // As the front does: answer early, take a little more, hang up.
    if (!this.#in.complete) this.#out.setHeader('connection', 'close')
    this.#out.writeHead(status, pairs(headers))
    this.#out.end(body)
    this.#in.resume()
  }

  begin(): void {
    throw new Error('the file endpoints do not stream')
  }

  write(): boolean {
    throw new Error('the file endpoints do not stream')
  }

  onDrain(): void {}

  end(): void {
    this.reset()
  }

  reset(): void {
    this.#open = false
    this.#out.destroy()
  }

  sendFile(
    status: number,
    headers: readonly string[],
    file: { fd: number; start: number; length: number; headOnly: boolean },
  ): void {
    this.#out.writeHead(status, { ...pairs(headers), 'content-length': file.length })
    const end = file.start + file.length - 1
    const isEmpty = file.headOnly || file.length === 0
    const stream = createReadStream('', { fd: file.fd, start: file.start, end: Math.max(end, 0) })
    if (isEmpty) {
      stream.destroy()
      this.#out.end()
    } else {
      stream.pipe(this.#out)
    }
  }
}

function pairs(headers: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {}
  for (let i = 0; i < headers.length; i += 2) result[headers[i] ?? ''] = headers[i + 1] ?? ''
  return result
}
