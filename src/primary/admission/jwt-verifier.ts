/**
 * Judges JWT access tokens of one issuer. A token that was found good is known by its digest for a while, so that a request with it costs a hash; any
 * other takes a signature, off this thread, and sometimes a reading of the issuer's keys.
 */
import type { Config } from '../../shared/config/config.ts'
import { jwtPrincipal } from '../../shared/principals.ts'
import { KeysUnavailableError } from './jwks.ts'

/** Only signatures that the public keys can't make. */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
]
/** Longest time for which a token counts as good without another look, in milliseconds. */
const KNOWN_MS = 60_000
/** Tokens that are known at a time; the oldest gives way. */
const MAX_KNOWN = 10_000
/** Longest subject, in characters (OpenID Connect allows 255). */
const MAX_SUBJECT = 255

/** A token that is good, but for what a request asks of it. */
export interface VerifiedToken {
  readonly principal: string
  readonly audiences: readonly string[]
  readonly scopes: ReadonlySet<string>
  /** Unix milliseconds until which this counts. */
  readonly untilMs: number
}

/** What is found of a token. */
export type JwtFinding =
  | { readonly kind: 'verified'; readonly token: VerifiedToken }
  | { readonly kind: 'invalid'; readonly message: string }
  | { readonly kind: 'unavailable' }

type Verify = (token: string) => Promise<VerifiedToken>

/** See the file comment. */
export class JwtVerifier {
  readonly #verify: Promise<Verify>
  readonly #known = new Map<string, VerifiedToken>()
  readonly #underWay = new Map<string, Promise<JwtFinding>>()

  /** `issuer` and `jwksUri` are set. `onKeysFailure` hears of each reading of the keys that failed. */
  constructor(
    jwt: Config['core']['auth']['jwt'],
    accepted: readonly string[],
    onKeysFailure: (error: unknown) => void,
  ) {
    // Loaded only where it is used.
    this.#verify = openVerify(jwt, accepted, onKeysFailure)
    this.#verify.catch(() => {
      // Whoever verifies hears of it.
    })
  }

  /** A token that was found good a short while ago. `digest` is the token's. */
  peek(digest: string): VerifiedToken | undefined {
    const known = this.#known.get(digest)
    if (known === undefined || Date.now() < known.untilMs) return known
    this.#known.delete(digest)
    return undefined
  }

  /** Looks at a token. Never rejects. Who asks for the same token meanwhile shares the look. */
  verify(digest: string, token: string): Promise<JwtFinding> {
    const underWay = this.#underWay.get(digest)
    if (underWay !== undefined) return underWay
    const finding = this.#find(digest, token).finally(() => this.#underWay.delete(digest))
    this.#underWay.set(digest, finding)
    return finding
  }

  async #find(digest: string, token: string): Promise<JwtFinding> {
    try {
      const verify = await this.#verify
      const verified = await verify(token)
      this.#remember(digest, verified)
      return { kind: 'verified', token: verified }
    } catch (error) {
      if (error instanceof KeysUnavailableError || codeOf(error) === 'ERR_JWKS_TIMEOUT')
        return { kind: 'unavailable' }
      return { kind: 'invalid', message: reasonOf(error) }
    }
  }

  #remember(digest: string, token: VerifiedToken): void {
    this.#known.set(digest, token)
    if (this.#known.size <= MAX_KNOWN) return
    const [oldest] = this.#known.keys()
    if (oldest !== undefined) this.#known.delete(oldest)
  }
}

async function openVerify(
  jwt: Config['core']['auth']['jwt'],
  accepted: readonly string[],
  onFailure: (error: unknown) => void,
): Promise<Verify> {
  const [{ jwtVerify }, { openJwks }] = await Promise.all([import('jose'), import('./jwks.ts')])
  const issuer = jwt.issuer ?? ''
  const keys = openJwks({
    uri: jwt.jwksUri ?? '',
    cacheMs: jwt.jwksCacheSeconds * 1_000,
    cooldownMs: jwt.jwksCooldownSeconds * 1_000,
    timeoutMs: jwt.jwksTimeoutSeconds * 1_000,
    onFailure,
  })
  const options = {
    issuer,
    audience: [...accepted],
    algorithms: ALGORITHMS,
    clockTolerance: jwt.clockToleranceSeconds,
    requiredClaims: ['exp', 'sub'],
  }
  return async (token) => {
    const { payload } = await jwtVerify(token, keys, options)
    const { sub = '', exp = 0, aud = [] } = payload
    if (sub === '' || sub.length > MAX_SUBJECT) throw new SubjectError()
    return {
      principal: jwtPrincipal(issuer, sub),
      audiences: typeof aud === 'string' ? [aud] : aud,
      scopes: scopesOf(payload),
      untilMs: Math.min(Date.now() + KNOWN_MS, (exp + jwt.clockToleranceSeconds) * 1_000),
    }
  }
}

class SubjectError extends Error {
  override readonly name = 'SubjectError'
}

/** `scope` is one text (RFC 9068); some issuers have a list, or call it `scp`. */
function scopesOf(payload: Readonly<Record<string, unknown>>): ReadonlySet<string> {
  const listed = [payload['scope'], payload['scp']].flat()
  const texts = listed.filter((entry) => typeof entry === 'string')
  return new Set(texts.flatMap((text) => text.split(' ')).filter((scope) => scope !== ''))
}

/** What a client may know of why its token is refused. Nothing of it repeats what the token holds. */
function reasonOf(error: unknown): string {
  switch (codeOf(error)) {
    case 'ERR_JWT_EXPIRED':
      return 'the token has expired'
    case 'ERR_JWT_CLAIM_VALIDATION_FAILED':
      return claimReason(error)
    case 'ERR_JWKS_NO_MATCHING_KEY':
      return 'the token is signed with a key that its issuer does not publish'
    case 'ERR_JOSE_ALG_NOT_ALLOWED':
      return 'the token is signed with an algorithm that is not accepted'
    case 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED':
      return 'the signature of the token is wrong'
    default:
      return 'the token is not valid'
  }
}

function claimReason(error: unknown): string {
  const claim = typeof error === 'object' && error !== null && 'claim' in error ? error.claim : ''
  switch (claim) {
    case 'aud':
      return 'the token is meant for somebody else (aud)'
    case 'iss':
      return 'the token is from an issuer that is not accepted (iss)'
    case 'nbf':
      return 'the token is not valid yet (nbf)'
    default:
      return 'the token lacks a claim that is needed (exp, sub), or has a wrong one'
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
}
