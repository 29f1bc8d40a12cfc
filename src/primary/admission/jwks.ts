/** Reads the issuer's public keys, within limits: of time, of size, and of how often a server that fails is asked again. */
import { createRemoteJWKSet, customFetch } from 'jose'
import type { RemoteJWKSet } from 'jose'

/** Largest key set, in bytes. */
const MAX_BYTES = 1_048_576
/** A server that failed is not asked again for this long, in milliseconds; who needs a key meanwhile is refused at once. */
const RETRY_AFTER_MS = 2_000

/** How keys are read. */
export interface JwksOptions {
  readonly uri: string
  /** Age at which the set is read again. */
  readonly cacheMs: number
  /** Least time between two readings that an unknown key causes. */
  readonly cooldownMs: number
  readonly timeoutMs: number
  /** Hears of each reading that failed. */
  readonly onFailure: (error: unknown) => void
}

/** The keys can't be had: nothing can be said of a token. */
export class KeysUnavailableError extends Error {
  override readonly name = 'KeysUnavailableError'
}

/** The key set of an issuer, as `jwtVerify` takes it. What fails to read it throws `KeysUnavailableError`. */
export function openJwks(options: JwksOptions): RemoteJWKSet {
  let failedAtMs = -Infinity
  const read = async (url: string, init: RequestInit): Promise<Response> => {
    if (performance.now() - failedAtMs < RETRY_AFTER_MS)
      throw new KeysUnavailableError('reading the keys failed a moment ago')
    try {
      return Response.json({ keys: await readKeySet(url, init) })
    } catch (error) {
      failedAtMs = performance.now()
      options.onFailure(error)
      throw new KeysUnavailableError('the keys can not be read', { cause: error })
    }
  }
  return createRemoteJWKSet(new URL(options.uri), {
    cacheMaxAge: options.cacheMs,
    cooldownDuration: options.cooldownMs,
    timeoutDuration: options.timeoutMs,
    [customFetch]: read,
  })
}

/** The keys of a set, none of them looked at. Throws whatever was wrong: what is no key set counts as a failure, too. */
export async function readKeySet(url: string, init: RequestInit): Promise<readonly unknown[]> {
  const answer = await fetch(url, init)
  if (answer.status !== 200 || answer.body === null) {
    await answer.body?.cancel()
    throw new Error(`${new URL(url).origin} answered ${answer.status} in place of its keys`)
  }
  const pieces: Uint8Array[] = []
  let length = 0
  // A fetched body is a stream of bytes, whatever the types of the platform say.
  for await (const piece of answer.body as AsyncIterable<Uint8Array>) {
    length += piece.byteLength
    if (length > MAX_BYTES)
      throw new Error(`the keys of ${new URL(url).origin} are larger than ${MAX_BYTES} bytes`)
    pieces.push(piece)
  }
  const set: unknown = JSON.parse(Buffer.concat(pieces).toString('utf8'))
  if (typeof set === 'object' && set !== null && 'keys' in set && Array.isArray(set.keys))
    return set.keys
  throw new Error(`${new URL(url).origin} answered something else than a JWK set`)
}
