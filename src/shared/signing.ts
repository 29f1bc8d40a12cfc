/**
 * Signed, expiring URLs: who holds one may upload to, or download from, one session without any other credential. One-time use of uploads is the
 * store's business (`commitUploads`), because only it sees all replicas. The same secrets sign what a client is to bring back unchanged.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { link, mkdir, open, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

import { parseSessionId, type SessionId } from './ids.ts'

/** The first secret signs; all of them verify, so that a secret can be replaced without breaking links that are out. */
export interface UrlSignerOptions {
  readonly secrets: readonly string[]
}

/** What an upload URL grants. The server id is in the path, the rest in the query. */
export interface UploadGrant {
  readonly serverId: string
  readonly sessionId: SessionId
  readonly expiresAtSeconds: number
  readonly nonce: string
}

/** What a download URL grants. All but the expiry is in the path. */
export interface DownloadGrant {
  readonly serverId: string
  readonly sessionId: string
  readonly artifactId: string
  /** As stored, not percent-encoded. */
  readonly filename: string
  readonly expiresAtSeconds: number
}

/** Why a URL is refused. `expired` is only said of a URL that we did sign. */
export type Refusal = {
  readonly ok: false
  readonly reason: 'malformed' | 'expired' | 'bad_signature'
}

const UPLOAD_PARAMETERS = [
  'mcp_upload_session',
  'mcp_upload_exp',
  'mcp_upload_nonce',
  'mcp_upload_sig',
] as const
const DOWNLOAD_PARAMETERS = ['mcp_artifact_exp', 'mcp_artifact_sig'] as const
const NONCE = /^[A-Za-z0-9_-]{16,64}$/
const SECONDS = /^[0-9]{1,12}$/
const SIGNATURE = /^[0-9a-f]{64}$/

/** See the file comment. */
export class UrlSigner {
  readonly #secrets: readonly [string, ...string[]]

  /** Throws a `RangeError` without a secret, or with a blank one. */
  constructor(options: UrlSignerOptions) {
    const [first, ...others] = options.secrets
    if (first === undefined || options.secrets.some((secret) => secret.trim() === '')) {
      throw new RangeError('a signing secret must not be blank')
    }
    this.#secrets = [first, ...others]
  }

  /** The query string, without `?`, of an upload URL for `grant.serverId`. */
  signUpload(grant: UploadGrant): string {
    return new URLSearchParams({
      mcp_upload_session: grant.sessionId,
      mcp_upload_exp: String(grant.expiresAtSeconds),
      mcp_upload_nonce: grant.nonce,
      mcp_upload_sig: mac(this.#secrets[0], uploadFields(grant)).toString('hex'),
    }).toString()
  }

  /** Judges the query of a request to the upload path of `serverId`. Other parameters are ignored. */
  verifyUpload(
    serverId: string,
    query: URLSearchParams,
    nowSeconds: number,
  ): { readonly ok: true; readonly grant: UploadGrant } | Refusal {
    const values = readOnce(query, UPLOAD_PARAMETERS)
    const sessionId = parseSessionId(values?.[0] ?? '')
    const [, expiry = '', nonce = '', signature = ''] = values ?? []
    if (sessionId === undefined || !SECONDS.test(expiry) || !NONCE.test(nonce)) {
      return { ok: false, reason: 'malformed' }
    }
    const grant = { serverId, sessionId, expiresAtSeconds: Number(expiry), nonce }
    const refusal = this.#judge(uploadFields(grant), grant.expiresAtSeconds, signature, nowSeconds)
    return refusal ?? { ok: true, grant }
  }

  /** The query string, without `?`, of a download URL. */
  signDownload(grant: DownloadGrant): string {
    return new URLSearchParams({
      mcp_artifact_exp: String(grant.expiresAtSeconds),
      mcp_artifact_sig: mac(this.#secrets[0], downloadFields(grant)).toString('hex'),
    }).toString()
  }

  /** Judges the query of a request to the download path that `target` was read from. */
  verifyDownload(
    target: Omit<DownloadGrant, 'expiresAtSeconds'>,
    query: URLSearchParams,
    nowSeconds: number,
  ): { readonly ok: true; readonly expiresAtSeconds: number } | Refusal {
    const [expiry = '', signature = ''] = readOnce(query, DOWNLOAD_PARAMETERS) ?? []
    if (!SECONDS.test(expiry)) return { ok: false, reason: 'malformed' }
    const expiresAtSeconds = Number(expiry)
    const fields = downloadFields({ ...target, expiresAtSeconds })
    const refusal = this.#judge(fields, expiresAtSeconds, signature, nowSeconds)
    return refusal ?? { ok: true, expiresAtSeconds }
  }

  /** A signature of fields, of which the first names the purpose. It does not expire. */
  sign(fields: readonly string[]): string {
    return mac(this.#secrets[0], fields).toString('hex')
  }

  /** Whether `sign` made this signature of these fields. */
  isSigned(fields: readonly string[], signature: string): boolean {
    return this.#isSigned(fields, signature)
  }

  #judge(
    fields: readonly string[],
    expiresAtSeconds: number,
    signature: string,
    nowSeconds: number,
  ): Refusal | undefined {
    if (!this.#isSigned(fields, signature)) return { ok: false, reason: 'bad_signature' }
    return expiresAtSeconds < nowSeconds ? { ok: false, reason: 'expired' } : undefined
  }

  #isSigned(fields: readonly string[], signature: string): boolean {
    if (!SIGNATURE.test(signature)) return false
    const given = Buffer.from(signature, 'hex')
    let matches = false
    // Every secret is tried, so that the time taken does not tell which one matched.
    for (const secret of this.#secrets) {
      if (timingSafeEqual(mac(secret, fields), given)) matches = true
    }
    return matches
  }
}

/** Whether a download request carries a signature at all, valid or not. */
export function hasDownloadSignature(query: URLSearchParams): boolean {
  return DOWNLOAD_PARAMETERS.some((name) => query.has(name))
}

/** A fresh upload nonce: 128 random bits. */
export function mintNonce(): string {
  return randomBytes(16).toString('base64url')
}

/**
 * Reads the secrets in a file, one a line, or puts a new one (256 random bits, hex) there, readable by its owner only. Processes that race for it
 * all get the same. Rejects when the file holds something else, and with the file system's errors.
 */
export async function loadOrCreateSecrets(path: string): Promise<readonly string[]> {
  const existing = await readSecrets(path)
  if (existing !== undefined) return existing
  await mkdir(dirname(path), { recursive: true })
  await createExclusively(path, randomBytes(32).toString('hex'))
  const winner = await readSecrets(path)
  if (winner === undefined) throw new Error(`the signing secret ${path} vanished while it was made`)
  return winner
}

async function readSecrets(path: string): Promise<readonly string[] | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return undefined
  const secrets = text.trim().split(/\s*\n\s*/)
  if (secrets.every((secret) => SIGNATURE.test(secret))) return secrets
  throw new Error(
    `${path} does not hold signing secrets (64 hexadecimal digits a line); remove it to have a new one made`,
  )
}

/** A hard link appears whole or not at all, and fails when somebody else was first. */
async function createExclusively(path: string, secret: string): Promise<void> {
  const temp = `${path}.${randomBytes(6).toString('hex')}.part`
  const handle = await open(temp, 'wx', 0o600)
  try {
    await handle.writeFile(`${secret}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  try {
    await link(temp, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(temp, { force: true })
  }
}

/** The values of parameters that must each be there exactly once. */
function readOnce(query: URLSearchParams, names: readonly string[]): string[] | undefined {
  const values: string[] = []
  for (const name of names) {
    const [value, ...more] = query.getAll(name)
    if (value === undefined || more.length > 0) return undefined
    values.push(value)
  }
  return values
}

/** The purpose comes first, so that a signature for one never fits the other. */
function uploadFields(grant: UploadGrant): readonly string[] {
  const { serverId, sessionId, expiresAtSeconds, nonce } = grant
  return ['mcp-upload-v1', serverId, sessionId, String(expiresAtSeconds), nonce]
}

function downloadFields(grant: DownloadGrant): readonly string[] {
  const { serverId, sessionId, artifactId, filename, expiresAtSeconds } = grant
  return ['mcp-artifact-v1', serverId, sessionId, artifactId, filename, String(expiresAtSeconds)]
}

/** HMAC-SHA256 over the fields, each behind its length in bytes: no two lists of fields encode alike. The first should name what it is for. */
export function mac(secret: string, fields: readonly string[]): Buffer {
  const hmac = createHmac('sha256', secret)
  for (const field of fields) {
    const bytes = Buffer.from(field)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.byteLength)
    hmac.update(length).update(bytes)
  }
  return hmac.digest()
}
