/** Runs Lua scripts by their digest, and says in the store's own words why one could not be run. */
import { createHash } from 'node:crypto'

import { StoreUnavailableError } from '../../errors.ts'
import type { RedisClient } from './connection.ts'

/** A script that touches keys of one slot: those that begin with its first key. */
export interface Script {
  readonly source: string
  /** SHA-1 of the source, in hex. */
  readonly digest: string
}

/** What a script is given, besides its key. */
export type ScriptArgument = string | number | Buffer

/** Prepares a script. */
export function script(...parts: readonly string[]): Script {
  const source = parts.join('\n')
  return { source, digest: createHash('sha1').update(source).digest('hex') }
}

/** Runs a script; text in its answer is UTF-8. Rejects with `StoreUnavailableError` only. */
export function runText(
  client: RedisClient,
  what: Script,
  keys: readonly string[],
  args: readonly ScriptArgument[],
): Promise<unknown> {
  return run(what, (command, body) => client.call(command, body, keys.length, ...keys, ...args))
}

/** The same with Buffers in the answer instead of strings. */
export function runBinary(
  client: RedisClient,
  what: Script,
  keys: readonly string[],
  args: readonly ScriptArgument[],
): Promise<unknown> {
  return run(what, (command, body) =>
    client.callBuffer(command, body, keys.length, ...keys, ...args),
  )
}

/** A failure of Redis or the way to it, without what was sent or any secret. */
export function toUnavailable(error: unknown): StoreUnavailableError {
  return new StoreUnavailableError(`the state store failed: ${reasonOf(error)}`)
}

type Send = (command: 'evalsha' | 'eval', body: string) => Promise<unknown>

async function run(what: Script, send: Send): Promise<unknown> {
  try {
    return await send('evalsha', what.digest)
  } catch (error) {
    if (!isUnknownScript(error)) throw toUnavailable(error)
  }
  // A server that is new, or was restarted or failed over to, has no scripts. This also makes it remember the script.
  try {
    return await send('eval', what.source)
  } catch (error) {
    throw toUnavailable(error)
  }
}

function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

/** Longest part of a server's message that is passed on: what follows can repeat what was sent. */
const MAX_REASON_CHARS = 120

/** The cause is not attached: an error of the client holds the command with all that was sent. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'for an unknown reason'
  // What the client's library says while it has no connection, in the words of its options.
  if (error.message.includes('enableOfflineQueue')) return 'there is no connection to Redis'
  const [line = ''] = error.message.split('\n')
  const text = line.replace(/,? with args beginning with.*$/, '')
  return text.length > MAX_REASON_CHARS ? `${text.slice(0, MAX_REASON_CHARS)}…` : text
}
