/** Decides who a request is from, by the token that it carries: in the configured header, or as `Authorization: Bearer`. */
import type { Config } from '../../shared/config/config.ts'
import { ANONYMOUS, staticTokens } from '../../shared/principals.ts'
import { StaticTokens } from './static-tokens.ts'

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
  | { readonly kind: 'refused'; readonly reason: 'missing' | 'invalid'; readonly message: string }

const BEARER = /^bearer +/i
const ANYBODY: Verdict = { kind: 'accepted', principal: ANONYMOUS }

/** See the file comment. */
export class Authenticator {
  readonly #isEnabled: boolean
  readonly #headerName: string
  readonly #tokens: StaticTokens
  /** Verdicts that say yes: one for each principal, so that a request costs none. */
  readonly #accepted = new Map<string, Verdict>()

  constructor(auth: Config['core']['auth']) {
    this.#isEnabled = auth.enabled
    this.#headerName = auth.headerName.toLowerCase()
    const tokens = auth.enabled ? staticTokens(auth) : []
    this.#tokens = new StaticTokens(tokens)
    for (const { principal } of tokens)
      this.#accepted.set(principal, { kind: 'accepted', principal })
  }

  judge(presented: Presented): Verdict {
    if (!this.#isEnabled) return ANYBODY
    const own = this.#ownHeader(presented.credential)
    const bearer = bearerOf(presented.authorization)
    if (presented.passesAuthorization && this.#headerName !== 'authorization') {
      return bearer !== '' && this.#isOurs(bearer)
        ? refused(
            'invalid',
            `authorization is passed on to the upstream server here: send the token in header ${this.#headerName} only`,
          )
        : this.#judgeToken(own)
    }
    if (own !== '' && bearer !== '' && own !== bearer) {
      return refused(
        'invalid',
        `header ${this.#headerName} and authorization hold different tokens: send one of them`,
      )
    }
    return this.#judgeToken(own === '' ? bearer : own)
  }

  #judgeToken(token: string): Verdict {
    if (token === '') {
      return refused(
        'missing',
        `a valid token is required in header ${this.#headerName}, or as authorization: Bearer`,
      )
    }
    const principal = this.#tokens.principalOf(token)
    const verdict = principal === undefined ? undefined : this.#accepted.get(principal)
    return verdict ?? refused('invalid', `the token in header ${this.#headerName} is not valid`)
  }

  #isOurs(token: string): boolean {
    return this.#tokens.principalOf(token) !== undefined
  }

  /** Where the configured header is `Authorization` itself, the scheme may be left out. */
  #ownHeader(credential: string): string {
    return this.#headerName === 'authorization' ? credential.replace(BEARER, '') : credential
  }
}

function refused(reason: 'missing' | 'invalid', message: string): Verdict {
  return { kind: 'refused', reason, message }
}

/** The token of `Authorization: Bearer`; empty for another scheme. */
function bearerOf(authorization: string): string {
  const scheme = BEARER.exec(authorization)?.[0]
  return scheme === undefined ? '' : authorization.slice(scheme.length).trim()
}
