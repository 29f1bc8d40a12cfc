/**
 * A small OAuth 2.1 authorization server: metadata (RFC 8414), dynamic registration (RFC 7591), authorization code with PKCE and resource indicators
 * (RFC 8707), JWT access tokens (RFC 9068) and their keys. It approves everything that is asked in the right way, as one user.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { CryptoKey, JWK } from 'jose'

import { listenOnLoopback } from './upstreams/http-fixture.ts'

/** What a token is made of where it differs from an ordinary one. */
export interface TokenOptions {
  readonly subject?: string
  readonly audience?: string | readonly string[]
  readonly issuer?: string
  readonly scope?: string
  /** Seconds from now; default 300. */
  readonly expiresInSeconds?: number
  /** Further claims; null removes one. */
  readonly claims?: Readonly<Record<string, unknown>>
  /** Signs with a key that is not published, under the id of one that is. */
  readonly isForged?: boolean
}

/** See the file comment. */
export interface AuthorizationServer {
  /** Its issuer identifier. */
  readonly issuer: string
  readonly jwksUri: string
  /** What arrived, as method and path. */
  readonly requests: readonly string[]
  /** How the keys are served; by default as they are. */
  serveKeys: (response: ServerResponse) => boolean
  token(options?: TokenOptions): Promise<string>
  /** Signs with a new key, and publishes it only. */
  rotate(): Promise<void>
  stop(): Promise<void>
}

interface Grant {
  readonly challenge: string
  readonly redirectUri: string
  readonly clientId: string
  readonly resource: string
  readonly scope: string
}

interface Signer {
  readonly kid: string
  readonly privateKey: CryptoKey
  readonly publicJwk: JWK
}

const ALGORITHM = 'ES256'

/** Starts one on 127.0.0.1. `scopes`: what it offers. */
export async function startAuthorizationServer(
  scopes: readonly string[] = ['mcp'],
): Promise<AuthorizationServer> {
  let signer = await newSigner()
  const forger = await newSigner()
  const requests: string[] = []
  const clients = new Map<string, readonly string[]>()
  const grants = new Map<string, Grant>()
  const server = await listenOnLoopback((request, response) => {
    handle(request, response).catch((error: unknown) => {
      sendJson(response, 500, { error: 'server_error', error_description: String(error) })
    })
  })
  const issuer = `http://127.0.0.1:${server.port}`
  const self: AuthorizationServer = {
    issuer,
    jwksUri: `${issuer}/keys`,
    requests,
    serveKeys: () => false,
    token: (options = {}) => sign(options),
    rotate: async () => {
      signer = await newSigner()
    },
    stop: () => server.close(),
  }

  async function sign(options: TokenOptions): Promise<string> {
    const nowSeconds = Math.floor(Date.now() / 1_000)
    const claims = {
      iss: options.issuer ?? issuer,
      sub: options.subject ?? 'somebody',
      aud: options.audience,
      exp: nowSeconds + (options.expiresInSeconds ?? 300),
      iat: nowSeconds,
      jti: randomBytes(8).toString('hex'),
      scope: options.scope ?? scopes.join(' '),
      ...options.claims,
    }
    const kept = Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== null))
    return new SignJWT(kept)
      .setProtectedHeader({ alg: ALGORITHM, kid: signer.kid, typ: 'at+jwt' })
      .sign(options.isForged === true ? forger.privateKey : signer.privateKey)
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', issuer)
    requests.push(`${request.method} ${url.pathname}`)
    switch (`${request.method} ${url.pathname}`) {
      case 'GET /.well-known/oauth-authorization-server':
        sendJson(response, 200, {
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          registration_endpoint: `${issuer}/register`,
          jwks_uri: self.jwksUri,
          response_types_supported: ['code'],
          grant_types_supported: ['authorization_code'],
          code_challenge_methods_supported: ['S256'],
          token_endpoint_auth_methods_supported: ['none'],
          scopes_supported: scopes,
        })
        return
      case 'GET /keys':
        if (!self.serveKeys(response)) sendJson(response, 200, { keys: [signer.publicJwk] })
        return
      case 'POST /register': {
        const metadata: unknown = JSON.parse(await bodyOf(request))
        const redirectUris = (metadata as { redirect_uris: string[] }).redirect_uris // RFC 7591 §2
        const clientId = randomBytes(8).toString('hex')
        clients.set(clientId, redirectUris)
        sendJson(response, 201, {
          ...(metadata as object), // a JSON object
          client_id: clientId,
          client_id_issued_at: Math.floor(Date.now() / 1_000),
        })
        return
      }
      case 'GET /authorize':
        authorize(url.searchParams, response)
        return
      case 'POST /token':
        await exchange(new URLSearchParams(await bodyOf(request)), response)
        return
      default:
        sendJson(response, 404, { error: 'not_found' })
    }
  }

  function authorize(query: URLSearchParams, response: ServerResponse): void {
    const clientId = query.get('client_id') ?? ''
    const redirectUri = query.get('redirect_uri') ?? ''
    const isKnown = clients.get(clientId)?.includes(redirectUri) === true
    const isPkce = query.get('code_challenge_method') === 'S256'
    if (!isKnown || !isPkce || query.get('response_type') !== 'code') {
      sendJson(response, 400, { error: 'invalid_request' })
      return
    }
    const code = randomBytes(16).toString('hex')
    grants.set(code, {
      challenge: query.get('code_challenge') ?? '',
      redirectUri,
      clientId,
      resource: query.get('resource') ?? '',
      scope: query.get('scope') ?? '',
    })
    const back = new URL(redirectUri)
    back.searchParams.set('code', code)
    const state = query.get('state')
    if (state !== null) back.searchParams.set('state', state)
    response.writeHead(302, { location: back.href }).end()
  }

  async function exchange(form: URLSearchParams, response: ServerResponse): Promise<void> {
    const code = form.get('code') ?? ''
    const grant = grants.get(code)
    grants.delete(code)
    const verifier = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url')
    const isGranted =
      form.get('grant_type') === 'authorization_code' &&
      grant?.challenge === verifier &&
      grant.redirectUri === form.get('redirect_uri') &&
      grant.clientId === form.get('client_id') &&
      grant.resource === (form.get('resource') ?? '')
    if (grant === undefined || !isGranted) {
      sendJson(response, 400, { error: 'invalid_grant' })
      return
    }
    const accessToken = await sign({ audience: grant.resource, scope: grant.scope })
    sendJson(response, 200, {
      access_token: accessToken,
      token_type: 'Bearer',
      expires_in: 300,
      scope: grant.scope,
    })
  }

  return self
}

async function newSigner(): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair(ALGORITHM, { extractable: true })
  const kid = randomBytes(6).toString('hex')
  const publicJwk = { ...(await exportJWK(publicKey)), kid, alg: ALGORITHM, use: 'sig' }
  return { kid, privateKey, publicJwk }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  // Node's requests are streams of buffers.
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
  return Buffer.concat(parts).toString('utf8')
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}
