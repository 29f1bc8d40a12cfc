/** Decides who a request is from, by the token that it carries: in the configured header, or as `Authorization: Bearer`. */
import type { Config } from '../../shared/config/config.ts'
import { ANONYMOUS, staticTokens } from '../../shared/principals.ts'
import { JwtVerifier } from './jwt-verifier.ts'
import type { VerifiedToken } from './jwt-verifier.ts'
import { ALL_SERVERS } from './protected-resource.ts'
import type { ProtectedResource } from './protected-resource.ts'
import { digestOf, StaticTokens } from './static-tokens.ts'

/** What a request presents. */
export interface Presented {
  /** Value of the configured header; empty when it is missing. */
  readonly credential: string
  /** Value of `Authorization`; empty when it is missing. */
  readonly authorization: string
  /** Whether the operator passes `Authorization` on to the upstream: then it is not for us. */
  readonly passesAuthorization: boolean
}

/** Who it is from, or why that is not told. */
export type Verdict =
  | { readonly kind: 'accepted'; readonly principal: string }
  | {
      readonly kind: 'refused'
      readonly reason: 'missing' | 'invalid' | 'scope' | 'unavailable'
      readonly message: string
    }

const BEARER = /^bearer +/i
const ANYBODY: Verdict = { kind: 'accepted', principal: ANONYMOUS }

/** See the file comment. */
export class Authenticator {
  readonly #isEnabled: boolean
  readonly #headerName: string
  readonly #tokens: StaticTokens
  readonly #jwts: JwtVerifier | undefined
  readonly #issuer: string | null
  readonly #requiredScopes: readonly string[]
  readonly #resource: ProtectedResource

  /** `onKeysFailure` hears of each reading of an issuer's keys that failed. */
  constructor(
    auth: Config['core']['auth'],
    resource: ProtectedResource,
    onKeysFailure: (error: unknown) => void,
  ) {
    this.#isEnabled = auth.enabled
    this.#headerName = auth.headerName.toLowerCase()
    this.#tokens = new StaticTokens(auth.enabled ? staticTokens(auth) : [])
    this.#issuer = auth.enabled ? auth.jwt.issuer : null
    this.#requiredScopes = auth.jwt.requiredScopes
    this.#resource = resource
    this.#jwts =
      this.#issuer === null
        ? undefined
        : new JwtVerifier(auth.jwt, resource.audiences(ALL_SERVERS), onKeysFailure)
  }

  /** At once, but for a JWT that was not seen lately. The promise never rejects. `serverIndex`: whose route it is; `ALL_SERVERS` for none in particular. */
  judge(presented: Presented, serverIndex: number): Verdict | Promise<Verdict> {
    if (!this.#isEnabled) return ANYBODY
    const own = this.#ownHeader(presented.credential)
    const bearer = bearerOf(presented.authorization)
    if (presented.passesAuthorization && this.#headerName !== 'authorization') {
      return bearer !== '' && this.#isOurs(bearer)
        ? refused(
            'invalid',
            `authorization is passed on to the upstream server here: send the token in header ${this.#headerName} only`,
          )
        : this.#judgeToken(own, serverIndex)
    }
    if (own !== '' && bearer !== '' && own !== bearer) {
      return refused(
        'invalid',
        `header ${this.#headerName} and authorization hold different tokens: send one of them`,
      )
    }
    return this.#judgeToken(own === '' ? bearer : own, serverIndex)
  }

  #judgeToken(token: string, serverIndex: number): Verdict | Promise<Verdict> {
    if (token === '') {
      return refused(
        'missing',
        `a valid token is required in header ${this.#headerName}, or as authorization: Bearer`,
      )
    }
    const seen = this.#tokens.peek(token)
    if (seen !== undefined) return { kind: 'accepted', principal: seen }
    const digest = digestOf(token)
    const principal = this.#tokens.principalOf(digest)
    if (principal !== undefined) {
      this.#tokens.note(token, principal)
      return { kind: 'accepted', principal }
    }
    if (this.#jwts === undefined || !looksLikeJwt(token))
      return refused('invalid', 'the token is not valid')
    const key = digest.toString('latin1')
    const known = this.#jwts.peek(key)
    return known === undefined
      ? this.#verify(this.#jwts, key, token, serverIndex)
      : this.#judgeVerified(known, serverIndex)
  }

  async #verify(
    jwts: JwtVerifier,
    digest: string,
    token: string,
    serverIndex: number,
  ): Promise<Verdict> {
    const finding = await jwts.verify(digest, token)
    switch (finding.kind) {
      case 'verified':
        return this.#judgeVerified(finding.token, serverIndex)
      case 'invalid':
        return refused('invalid', finding.message)
      case 'unavailable':
        return refused(
          'unavailable',
          'the token can not be judged now: the keys of its issuer can not be read; repeat the request',
        )
    }
  }

  #judgeVerified(token: VerifiedToken, serverIndex: number): Verdict {
    const accepted = this.#resource.audiences(serverIndex)
    if (!token.audiences.some((audience) => accepted.includes(audience)))
      return refused('invalid', 'the token is meant for somebody else (aud)')
    if (!this.#requiredScopes.every((scope) => token.scopes.has(scope))) {
      return refused('scope', `the token needs the scopes ${this.#requiredScopes.join(' ')}`)
    }
    return { kind: 'accepted', principal: token.principal }
  }

  /** Whether a token is one for us, valid or not. */
  #isOurs(token: string): boolean {
    if (this.#tokens.principalOf(digestOf(token)) !== undefined) return true
    return this.#issuer !== null && looksLikeJwt(token) && issuerOf(token) === this.#issuer
  }

  /** Where the configured header is `Authorization` itself, the scheme may be left out. */
  #ownHeader(credential: string): string {
    return this.#headerName === 'authorization' ? credential.replace(BEARER, '') : credential
  }
}

function refused(
  reason: 'missing' | 'invalid' | 'scope' | 'unavailable',
  message: string,
): Verdict {
  return { kind: 'refused', reason, message }
}

/** The token of `Authorization: Bearer`; empty for another scheme. */
function bearerOf(authorization: string): string {
  const scheme = BEARER.exec(authorization)?.[0]
  return scheme === undefined ? '' : authorization.slice(scheme.length).trim()
}

/** Three parts of base64url: the compact form of a signed token (RFC 7515 §7.1). */
function looksLikeJwt(token: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)
}

/** Who a token says it is from; nothing is checked. */
function issuerOf(token: string): unknown {
  try {
    const claims: unknown = JSON.parse(
      Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'),
    )
    return typeof claims === 'object' && claims !== null && 'iss' in claims ? claims.iss : undefined
  } catch {
    return undefined
  }
}
