/** The sessions, files and URLs that the authorization matrix is played with, and the requests that it makes of them. */
import { randomBytes } from 'node:crypto'

import { parseSessionId } from '../../src/shared/ids.ts'
import type { SessionId } from '../../src/shared/ids.ts'
import { UrlSigner } from '../../src/shared/signing.ts'
import type { Column, MatrixRoute } from './authorization-matrix.ts'
import { INITIALIZE, MCP_HEADERS } from './file-rig.ts'

/** Tokens of the two principals, and the secret that signs URLs: the matrix forges, so it has to know. */
export const ALICE = 'token-of-alice-for-the-matrix'
export const BOB = 'token-of-bob-for-the-matrix'
export const SIGNING_SECRET = 'signing secret of the matrix'

/** A session with an artifact, and a stream of a legacy client. */
export interface Owned {
  readonly token: string
  readonly legacyId: string
  /** Ends the legacy client's stream. */
  readonly leave: () => void
  readonly sessionId: SessionId
  readonly artifactId: string
  readonly filename: string
}

/** A request, ready to be sent. */
export interface MatrixRequest {
  readonly path: string
  readonly init: RequestInit
}

type Headers = Readonly<Record<string, string>>

const SERVER = 'files'
const OTHER_SERVER = 'other'
const signer = new UrlSigner({ secrets: [SIGNING_SECRET] })
const REVISION = '2026-07-28'

/** Opens a session at a replica, and has an artifact made in it. */
export async function openOwned(url: string, token: string): Promise<Owned> {
  const headers = { ...MCP_HEADERS, authorization: `Bearer ${token}` }
  const mcp = `${url}/mcp/${SERVER}`
  const opened = await fetch(mcp, { method: 'POST', headers, body: INITIALIZE })
  await opened.text()
  const sessionId = parseSessionId(opened.headers.get('mcp-session-id') ?? '')
  if (sessionId === undefined) throw new Error(`no session: ${opened.status}`)
  const inSession = { ...headers, 'mcp-session-id': sessionId }
  const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
  const noted = await fetch(mcp, {
    method: 'POST',
    headers: inSession,
    body: JSON.stringify(initialized),
  })
  await noted.text()
  const call = rpc('tools/call', {
    name: 'write_report',
    arguments: { filename: 'report.txt', content: `of ${token}` },
  })
  const made = await fetch(mcp, { method: 'POST', headers: inSession, body: call })
  const text = await made.text()
  const [, artifactId, filename] = /\/artifacts\/files\/[^/]+\/([^/]+)\/([^/?]+)\?/.exec(text) ?? []
  if (artifactId === undefined || filename === undefined) throw new Error(`no artifact: ${text}`)
  return { token, sessionId, artifactId, filename, ...(await openLegacy(mcp, token)) }
}

/** A legacy client's stream, which stays open. */
async function openLegacy(mcp: string, token: string): Promise<Pick<Owned, 'legacyId' | 'leave'>> {
  const abort = new AbortController()
  const headers = { accept: 'text/event-stream', authorization: `Bearer ${token}` }
  const { body, status } = await fetch(`${mcp}/sse`, { headers, signal: abort.signal })
  const reader = body?.pipeThrough(new TextDecoderStream()).getReader()
  for (let text = ''; ;) {
    const piece = await reader?.read()
    if (piece?.value === undefined) throw new Error(`no legacy stream: ${status} ${text}`)
    text += piece.value
    const legacyId = /sessionId=(\S+)/.exec(text)?.[1]
    if (legacyId !== undefined) return { legacyId, leave: () => abort.abort() }
  }
}

/** The request of one case. `mine` is alice's, `hers` a session of bob's. `nonce` is that of uploads: a used one where the column asks for it. */
export function requestOf(
  route: MatrixRoute,
  column: Column,
  { mine, hers, nonce }: { readonly mine: Owned; readonly hers: Owned; readonly nonce: string },
): MatrixRequest {
  const whose = column === 'other session' ? hers : mine
  const server = column === 'other server' ? OTHER_SERVER : SERVER
  switch (route.rule) {
    case 'public':
      return { path: route.path ?? '/', init: { method: 'GET', headers: tokenFor(column) } }
    case 'token':
    case 'session': {
      const hasSession = route.rule === 'session' || column === 'other session'
      const headers = {
        ...headersFor(route),
        ...(hasSession ? { 'mcp-session-id': whose.sessionId } : {}),
        ...tokenFor(column),
      }
      const query = isSigned(column) ? `?${uploadQuery(mine, column, nonce)}` : ''
      const path = route.path ?? `/mcp/${server}${route.below ?? ''}`
      return { path: `${path}${query}`, init: { ...initOf(route), headers } }
    }
    case 'legacy stream': {
      const signed = isSigned(column) ? `&${uploadQuery(mine, column, nonce)}` : ''
      const path = `/mcp/${server}/messages?sessionId=${whose.legacyId}${signed}`
      return {
        path,
        init: { ...initOf(route), headers: { ...headersFor(route), ...tokenFor(column) } },
      }
    }
    case 'session of an artifact': {
      const headers = { 'mcp-session-id': whose.sessionId, ...tokenFor(column) }
      const query = isDownloadSigned(column)
        ? `?${downloadQuery(mine, column)}`
        : column === 'replayed nonce'
          ? `?${uploadQuery(mine, column, nonce)}`
          : ''
      return { path: `${artifactPath(server, whose)}${query}`, init: { ...initOf(route), headers } }
    }
    case 'signed download': {
      const query = isBare(column) ? '' : `?${downloadQuery(mine, column)}`
      const headers = signedHeaders(column)
      return { path: `${artifactPath(server, whose)}${query}`, init: { ...initOf(route), headers } }
    }
    case 'signed upload': {
      const signed = uploadQuery(mine, column, nonce)
      const moved = signed.replace(mine.sessionId, whose.sessionId)
      const query = isBare(column) ? '' : `?${moved}`
      const headers = { ...headersFor(route), ...signedHeaders(column) }
      return { path: `/upload/${server}${query}`, init: { ...initOf(route), headers } }
    }
  }
}

/** The same of something that does not exist: a session that nobody has, with the same credentials. */
export function unknownOf(request: MatrixRequest, names: readonly Owned[]): MatrixRequest {
  const nobody = 'A'.repeat(names[0]?.sessionId.length ?? 0)
  const replace = (text: string): string =>
    names.reduce((now, { sessionId, legacyId }) => {
      // The place stays: what differs is the secret part.
      const place = legacyId.slice(0, legacyId.lastIndexOf('.') + 1)
      const unknown = `${place}${'A'.repeat(legacyId.length - place.length)}`
      return now.replaceAll(sessionId, nobody).replaceAll(legacyId, unknown)
    }, text)
  const headers = Object.entries(asRecord(request.init.headers)).map(
    ([name, value]) => [name, replace(value)] as const,
  )
  return {
    path: replace(request.path),
    init: { ...request.init, headers: Object.fromEntries(headers) },
  }
}

/** A fresh nonce. */
export function newNonce(): string {
  return randomBytes(16).toString('base64url')
}

/** An upload of one file with the nonce, which uses it up. */
export function usingUp(mine: Owned, nonce: string): MatrixRequest {
  return {
    path: `/upload/${SERVER}?${uploadQuery(mine, 'right', nonce)}`,
    init: { method: 'PUT', body: 'used' },
  }
}

/** A token in a header; none where the column has none, or has only a signature. */
function tokenFor(column: Column): Headers {
  if (column === 'no credentials' || isSigned(column)) return {}
  const token = column === 'wrong' ? `${ALICE}x` : column === 'other principal' ? BOB : ALICE
  return { authorization: `Bearer ${token}` }
}

/** Signed URLs stand alone; a token beside one is somebody else's or a wrong one. */
function signedHeaders(column: Column): Headers {
  return column === 'wrong' || column === 'other principal' ? tokenFor(column) : {}
}

function isSigned(column: Column): boolean {
  return isDownloadSigned(column) || column === 'replayed nonce'
}

function isDownloadSigned(column: Column): boolean {
  return column === 'expired signature' || column === 'tampered signature'
}

function isBare(column: Column): boolean {
  return column === 'no credentials' || column === 'wrong'
}

function expiry(column: Column): number {
  return Math.floor(Date.now() / 1_000) + (column === 'expired signature' ? -10 : 300)
}

function uploadQuery(mine: Owned, column: Column, nonce: string): string {
  const { sessionId } = mine
  const grant = { serverId: SERVER, sessionId, nonce, expiresAtSeconds: expiry(column) }
  return tampered(signer.signUpload(grant), column)
}

function downloadQuery(mine: Owned, column: Column): string {
  const { sessionId, artifactId, filename } = mine
  const grant = { serverId: SERVER, sessionId, artifactId, filename }
  return tampered(signer.signDownload({ ...grant, expiresAtSeconds: expiry(column) }), column)
}

/** The expiry is moved by one second: the signature is not of this any more. */
function tampered(query: string, column: Column): string {
  return column === 'tampered signature'
    ? query.replace(/_exp=(\d+)/, (_, seconds: string) => `_exp=${Number(seconds) + 1}`)
    : query
}

function artifactPath(server: string, { sessionId, artifactId, filename }: Owned): string {
  return `/artifacts/${server}/${sessionId}/${artifactId}/${filename}`
}

function headersFor({ body }: MatrixRoute): Headers {
  switch (body) {
    case 'initialize':
    case 'list':
    case 'call':
      return MCP_HEADERS
    case 'stateless':
      return { ...MCP_HEADERS, 'mcp-protocol-version': REVISION, 'mcp-method': 'tools/list' }
    case 'bytes':
    case 'form':
      return {}
    case 'none':
      return { accept: 'text/event-stream' }
  }
}

function initOf({ method, body }: MatrixRoute): RequestInit {
  switch (body) {
    case 'initialize':
      return { method, body: INITIALIZE }
    case 'list':
      return { method, body: rpc('tools/list') }
    case 'call':
      return { method, body: rpc('tools/call', { name: 'echo', arguments: { text: 'x' } }) }
    case 'stateless':
      return {
        method,
        body: rpc('tools/list', {
          _meta: {
            'io.modelcontextprotocol/protocolVersion': REVISION,
            'io.modelcontextprotocol/clientInfo': { name: 'matrix', version: '1' },
            'io.modelcontextprotocol/clientCapabilities': {},
          },
        }),
      }
    case 'bytes':
      return { method, body: 'bytes of an upload' }
    case 'form': {
      const form = new FormData()
      form.append('file', new Blob(['bytes of a form']), 'form.txt')
      return { method, body: form }
    }
    case 'none':
      return { method }
  }
}

function rpc(method: string, params: object = {}): string {
  return JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
}

function asRecord(headers: RequestInit['headers']): Record<string, string> {
  return Object.fromEntries(new Headers(headers).entries())
}
