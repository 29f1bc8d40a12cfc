/** Guard rails of `core.auth`: who can use the servers, and whether the keys of a token issuer can be had from here. */
import type { Config } from '../../shared/config/config.ts'
import { staticTokens } from '../../shared/principals.ts'
import { readKeySet } from '../admission/jwks.ts'
import { ok, problem, reasonOf, warning, type Finding } from './finding.ts'
import { LOOPBACK } from './loopback.ts'

const SUBJECT = 'authentication'

/** Shorter tokens can be guessed, in characters: 16 random ones of base64 have 96 bits. */
const MIN_TOKEN_LENGTH = 16

/** What the configuration alone shows. */
export function* checkAuth({ core }: Pick<Config, 'core'>): Generator<Finding> {
  const { auth, host } = core
  if (!auth.enabled) {
    yield LOOPBACK.test(host)
      ? ok(SUBJECT, `core.auth.enabled is false, and only this machine reaches ${host}`)
      : warning(
          SUBJECT,
          `core.auth.enabled is false: whoever reaches ${host}:${core.port} can use every server; set it, and core.auth.token, tokens or jwt`,
        )
    return
  }
  const tokens = staticTokens(auth)
  const issuer = auth.jwt.issuer === null ? '' : `, and JWTs of ${auth.jwt.issuer}`
  yield ok(SUBJECT, `${tokens.length} static tokens${issuer}`)
  const short = new Set(
    tokens.filter(({ token }) => token.length < MIN_TOKEN_LENGTH).map(({ principal }) => principal),
  )
  if (short.size > 0) {
    yield warning(
      SUBJECT,
      `tokens of ${[...short].join(', ')} are shorter than ${MIN_TOKEN_LENGTH} characters and could be guessed; use long random ones`,
    )
  }
  if (issuer !== '') yield* checkJwt(core)
}

function* checkJwt({ auth: { jwt }, publicBaseUrl }: Config['core']): Generator<Finding> {
  for (const [field, url] of [
    ['issuer', jwt.issuer],
    ['jwks_uri', jwt.jwksUri],
  ] as const) {
    if (url === null || isProtected(url)) continue
    yield warning(
      SUBJECT,
      `core.auth.jwt.${field} is an http:// URL: whoever is on the way can put keys of his own in place of the issuer's; use https://`,
    )
  }
  if (publicBaseUrl === null) {
    yield warning(
      SUBJECT,
      'core.public_base_url is not set: OAuth clients are told that this resource is http:// and whatever Host their request had; set it to the address that clients reach the adapter by',
    )
  }
}

/** Reads the keys, as a replica would; nothing where there is no issuer. */
export async function checkKeys({ core }: Pick<Config, 'core'>): Promise<Finding | undefined> {
  const { auth } = core
  const { issuer, jwksUri, jwksTimeoutSeconds } = auth.jwt
  if (!auth.enabled || issuer === null || jwksUri === null) return undefined
  const place = new URL(jwksUri).origin
  try {
    const keys = await readKeySet(jwksUri, {
      redirect: 'manual',
      signal: AbortSignal.timeout(jwksTimeoutSeconds * 1_000),
    })
    return keys.length > 0
      ? ok('token keys', `${keys.length} at ${place}`)
      : problem('token keys', `${place} publishes none, so no JWT is accepted`)
  } catch (error) {
    return problem(
      'token keys',
      `core.auth.jwt.jwks_uri can not be read (${causeOf(error)}): JWTs would be answered 503; check the address and the way to ${place}`,
    )
  }
}

/** What `fetch` says is in the cause. */
function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  return reasonOf(cause instanceof Error && cause.message !== '' ? cause : error)
}

function isProtected(url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return protocol === 'https:' || LOOPBACK.test(hostname.replace(/^\[|\]$/g, ''))
}
