/** Principals: who a request is from, as sessions are bound to them. A principal outlives the secret that proved it, so that secrets can be replaced. */
import type { Config } from './config/config.ts'

/** What of `core.auth` says who the principals are. */
type Auth = Pick<Config['core']['auth'], 'enabled' | 'token' | 'tokens'> & {
  readonly jwt: Pick<Config['core']['auth']['jwt'], 'issuer'>
}

/** Everybody, while authentication is off. */
export const ANONYMOUS = ''

/** The name of `core.auth.token` among `core.auth.tokens`. */
const DEFAULT_TOKEN_NAME = 'default'

/** Every static token with the principal that it stands for. Several tokens may stand for one: that is how one is replaced. */
export function staticTokens({ token, tokens }: Pick<Auth, 'token' | 'tokens'>): readonly {
  readonly principal: string
  readonly token: string
}[] {
  const own = token === null ? [] : [{ name: DEFAULT_TOKEN_NAME, token }]
  return [...own, ...tokens].map((entry) => ({
    principal: `token:${entry.name}`,
    token: entry.token,
  }))
}

/** The principal of a JWT. The issuer is a URL and so has no blank in it: no two pairs read alike. */
export function jwtPrincipal(issuer: string, subject: string): string {
  return `jwt:${issuer} ${subject}`
}

/** Judges whose a session is. The same configuration judges alike on every replica. */
export class SessionOwners {
  /** Whose sessions without a principal are; undefined when they are nobody's. */
  readonly #unbound: string | undefined

  constructor(auth: Auth) {
    this.#unbound = ownerOfUnbound(auth)
  }

  /**
   * The only principal that may use a session; undefined when nobody may. A record has no principal when it was made while authentication was off, or
   * rebuilt from files: with one principal configured it is that one's; with several nobody can tell whose it was, and it stays out of reach.
   */
  ownerOf(record: { readonly principal?: string | undefined }): string | undefined {
    return record.principal ?? this.#unbound
  }
}

function ownerOfUnbound(auth: Auth): string | undefined {
  if (!auth.enabled) return ANONYMOUS
  if (auth.jwt.issuer !== null) return undefined
  const [only, ...others] = new Set(staticTokens(auth).map(({ principal }) => principal))
  return others.length === 0 ? only : undefined
}
