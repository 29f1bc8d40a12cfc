/** Decides from the head of a request whether it goes any further: framing, route, Host, Origin, token, and what Streamable HTTP asks of headers. */
import { AdapterError } from '../../shared/errors.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Config } from '../../shared/config/config.ts'
import { ANONYMOUS } from '../../shared/principals.ts'
import { Authenticator } from '../admission/authenticator.ts'
import type { Verdict } from '../admission/authenticator.ts'
import { accepts } from '../admission/headers.ts'
import type { ReadHeaders } from '../admission/headers.ts'
import { OriginPolicy } from '../admission/origin.ts'
import { ALL_SERVERS, ProtectedResource } from '../admission/protected-resource.ts'
import type { Route } from '../routes.ts'
import { canDrain } from './lingering-answer.ts'
import { tooLarge } from './message-intake.ts'

/** Where a request goes. */
interface Place {
  readonly path: string
  readonly query: string
}

/** What a request is for, once its path is known. */
interface Asked {
  readonly route: Route
  readonly serverIndex: number
  readonly method: string
}

/** Why a request goes no further. */
export interface Refusal {
  readonly error: AdapterError
  /** Further response headers. */
  readonly headers?: HeaderList
}

/** What the gate says: the request goes no further, or it goes on as one of `principal`, which is empty where nobody in particular asks. */
export type Admission =
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'admitted'; readonly principal: string }
  /** It takes a while to tell who asks. Never rejects. */
  | { readonly kind: 'pending'; readonly outcome: Promise<Settled> }

/** What is said in the end. */
export type Settled = Exclude<Admission, { readonly kind: 'pending' }>

/** Public routes, signed URLs, and everything while authentication is off. */
const ANYBODY: Settled = { kind: 'admitted', principal: ANONYMOUS }

/** See the file comment. */
export class Gate {
  readonly #origins: OriginPolicy
  readonly #authenticator: Authenticator
  readonly #resource: ProtectedResource
  readonly #maxMessageBytes: number

  /** `onKeysFailure` hears of each reading of a token issuer's keys that failed. */
  constructor(config: Pick<Config, 'core' | 'servers'>, onKeysFailure: (error: unknown) => void) {
    const { core } = config
    this.#resource = new ProtectedResource(config)
    this.#origins = new OriginPolicy(core)
    this.#authenticator = new Authenticator(core.auth, this.#resource, onKeysFailure)
    this.#maxMessageBytes = core.maxMessageBytes
  }

  admit(route: Route, method: string, place: Place, headers: ReadHeaders): Admission {
    const refusal = this.#placeRefusal(route, place, headers)
    if (refusal !== undefined) return { kind: 'refused', refusal }
    if (!needsToken(route, place)) return admitted(ANYBODY, bodyRefusalAt(route, method, headers))
    const serverIndex = 'serverIndex' in route ? route.serverIndex : ALL_SERVERS
    const asked = { route, serverIndex, method }
    const verdict = this.#authenticator.judge(headers, serverIndex)
    return verdict instanceof Promise
      ? { kind: 'pending', outcome: verdict.then((late) => this.#settle(late, asked, headers)) }
      : this.#settle(verdict, asked, headers)
  }

  /** Whether a request is from somebody in particular, whatever it asks for; never while authentication is off. */
  async knows(headers: ReadHeaders): Promise<boolean> {
    if (headers.problem !== undefined) return false
    const verdict = await this.#authenticator.judge(headers, ALL_SERVERS)
    return verdict.kind === 'accepted' && verdict.principal !== ANONYMOUS
  }

  /** The metadata of RFC 9728 for one server, or for all. */
  metadata(serverIndex: number, headers: ReadHeaders): string {
    return this.#resource.metadata(serverIndex, headers.host)
  }

  /** What follows from who asks. */
  #settle(verdict: Verdict, { route, serverIndex, method }: Asked, headers: ReadHeaders): Settled {
    if (verdict.kind === 'refused')
      return { kind: 'refused', refusal: this.#tokenRefusal(verdict, serverIndex, headers.host) }
    const further = this.#furtherRefusal(route, method, headers)
    return admitted({ kind: 'admitted', principal: verdict.principal }, further)
  }

  /** What is wrong with a request beyond who asks and where. */
  #furtherRefusal(route: Route, method: string, headers: ReadHeaders): Refusal | undefined {
    if (route.kind !== 'mcp' && route.kind !== 'sse' && route.kind !== 'messages')
      return bodyRefusalAt(route, method, headers)
    if (headers.missing !== undefined) {
      return refuseWith(
        'ADAPTER_CLIENT_HEADER_MISSING',
        `header ${headers.missing} is required by this server`,
      )
    }
    return route.kind === 'mcp'
      ? this.#protocolRefusal(method, headers)
      : this.#legacyRefusal(route.kind, method, headers)
  }

  #tokenRefusal(
    { reason, message }: Extract<Verdict, { kind: 'refused' }>,
    serverIndex: number,
    host: string,
  ): Refusal {
    const challenge = (error?: 'invalid_token' | 'insufficient_scope'): HeaderList => [
      'www-authenticate',
      this.#resource.challenge(error && { code: error, text: message }, serverIndex, host),
    ]
    switch (reason) {
      case 'missing':
        return refuseWith('ADAPTER_UNAUTHORIZED', message, challenge())
      case 'invalid':
        return refuseWith('ADAPTER_UNAUTHORIZED', message, challenge('invalid_token'))
      case 'scope':
        return refuseWith('ADAPTER_SCOPE_MISSING', message, challenge('insufficient_scope'))
      case 'unavailable':
        return refuseWith('ADAPTER_KEYS_UNAVAILABLE', message)
    }
  }

  /** What is wrong with the request whoever sends it: its framing, its path, Host or Origin. */
  #placeRefusal(route: Route, { path }: Place, headers: ReadHeaders): Refusal | undefined {
    if (headers.problem !== undefined) return refuseWith('ADAPTER_HEADER_INVALID', headers.problem)
    if (route.kind === 'none')
      return refuseWith('ADAPTER_ROUTE_UNKNOWN', `nothing is served at ${printable(path)}`)
    if (route.kind === 'health') return undefined
    if (!this.#origins.acceptsHost(headers.host)) {
      return refuseWith(
        'ADAPTER_HOST_REFUSED',
        `host ${printable(headers.host)} is not served here; if it should be, set core.public_base_url or list it in core.allowed_hosts`,
      )
    }
    if (headers.origin !== '' && !this.#origins.acceptsOrigin(headers.origin, headers.host)) {
      return refuseWith(
        'ADAPTER_ORIGIN_REFUSED',
        `origin ${printable(headers.origin)} is not allowed; if it should be, list it in core.allowed_origins`,
      )
    }
    return undefined
  }

  /** What Streamable HTTP asks of a request's method and headers (2025-11-25, basic/transports). */
  #protocolRefusal(method: string, headers: ReadHeaders): Refusal | undefined {
    switch (method) {
      case 'POST':
        return (
          this.#messageRefusal(headers) ??
          (accepts(headers.accept, 'application/json') ||
          accepts(headers.accept, 'text/event-stream')
            ? undefined
            : refuseWith(
                'ADAPTER_NOT_ACCEPTABLE',
                'accept must list application/json and text/event-stream',
              ))
        )
      case 'GET':
        return streamRefusal(headers)
      case 'DELETE':
        return bodyRefusal(method, headers)
      default:
        return methodRefusal(method, 'GET, POST, DELETE')
    }
  }

  /** What the HTTP+SSE transport asks of them (2024-11-05, basic/transports): a stream is opened, messages are POSTed, and nothing else. */
  #legacyRefusal(
    kind: 'sse' | 'messages',
    method: string,
    headers: ReadHeaders,
  ): Refusal | undefined {
    if (kind === 'sse')
      return method === 'GET' ? streamRefusal(headers) : methodRefusal(method, 'GET')
    return method === 'POST' ? this.#messageRefusal(headers) : methodRefusal(method, 'POST')
  }

  #messageRefusal(headers: ReadHeaders): Refusal | undefined {
    if (mediaType(headers.contentType) !== 'application/json') {
      return refuseWith(
        'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
        'the body of a POST must have content-type application/json',
      )
    }
    return headers.contentLength > this.#maxMessageBytes
      ? refuseWith('ADAPTER_MESSAGE_TOO_LARGE', tooLarge(this.#maxMessageBytes))
      : undefined
  }
}

function streamRefusal(headers: ReadHeaders): Refusal | undefined {
  return accepts(headers.accept, 'text/event-stream')
    ? bodyRefusal('GET', headers)
    : refuseWith(
        'ADAPTER_NOT_ACCEPTABLE',
        'a GET opens a stream: accept must list text/event-stream',
      )
}

function methodRefusal(method: string, allowed: string): Refusal {
  return refuseWith(
    'ADAPTER_METHOD_NOT_ALLOWED',
    `${printable(method)} is not a method of this endpoint`,
    ['allow', allowed],
  )
}

/** Metrics say who is served here and how much. A download's signature decides alone. Without one, the session's id is not enough where a token is asked for: signed URLs show it. */
function needsToken(route: Route, { query }: Place): boolean {
  const isProtocol = route.kind === 'mcp' || route.kind === 'sse' || route.kind === 'messages'
  if (isProtocol || route.kind === 'metrics') return true
  return route.kind === 'artifact' && !query.includes('mcp_artifact_sig=')
}

function admitted(admission: Settled, refusal: Refusal | undefined): Settled {
  return refusal === undefined ? admission : { kind: 'refused', refusal }
}

/** Only uploads have a body outside MCP. */
function bodyRefusalAt(route: Route, method: string, headers: ReadHeaders): Refusal | undefined {
  const isRead = route.kind === 'metadata' || route.kind === 'metrics'
  if (isRead && method !== 'GET' && method !== 'HEAD') {
    return refuseWith('ADAPTER_METHOD_NOT_ALLOWED', `${printable(method)} is not a method here`, [
      'allow',
      'GET, HEAD',
    ])
  }
  const isUpload = route.kind === 'upload' && (method === 'POST' || method === 'PUT')
  return isUpload ? undefined : bodyRefusal(method, headers)
}

function refuseWith(code: ErrorCode, message: string, headers?: HeaderList): Refusal {
  return { error: new AdapterError(code, message), ...(headers === undefined ? {} : { headers }) }
}

/** A body that is not asked for is dropped when it is small; nobody has to take in an endless one. */
function bodyRefusal(method: string, headers: ReadHeaders): Refusal | undefined {
  return canDrain(headers.contentLength)
    ? undefined
    : refuseWith('ADAPTER_HEADER_INVALID', `${printable(method)} takes no body here`)
}

function mediaType(contentType: string): string {
  const semicolon = contentType.indexOf(';')
  return (semicolon === -1 ? contentType : contentType.slice(0, semicolon)).trim().toLowerCase()
}

/** Client text in a message: short, without control characters. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what must go
  return JSON.stringify(text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?').slice(0, 100))
}
