/** What replicas tell each other about sessions, by publish and subscribe: one channel for each key base. */
import { parseSessionId } from '../../ids.ts'
import type { JsonObject, SessionKey } from '../records.ts'

/**
 * One message. `invalidate`: copies of this session must not be trusted any more. `offered`: its standalone stream is to be taken over. `announced`:
 * `message` is for the client, for whoever has its stream.
 */
export type Change = ChangeOf &
  (
    | { readonly kind: 'invalidate' | 'offered' }
    | { readonly kind: 'announced'; readonly message: JsonObject }
  )

interface ChangeOf {
  /** Who asked for it and so knows; empty when nobody does. */
  readonly origin: string
  readonly key: SessionKey
}

/** The channel that everything of this key base is published on. */
export function changeChannel(keyBase: string): string {
  return `${keyBase}:changed`
}

/** The message for a change. */
export function encodeChange(change: Change): string {
  const { kind, origin, key } = change
  const message = kind === 'announced' ? [change.message] : []
  return JSON.stringify([kind, origin, key.serverId, key.sessionId, ...message])
}

/** Reads a message; undefined for one that this version does not know. */
export function decodeChange(message: string): Change | undefined {
  let value: unknown
  try {
    value = JSON.parse(message)
  } catch {
    return undefined
  }
  if (!Array.isArray(value)) return undefined
  const parts: readonly unknown[] = value
  const [kind, origin, serverId, id, announced] = parts
  const sessionId = typeof id === 'string' ? parseSessionId(id) : undefined
  if (typeof origin !== 'string' || typeof serverId !== 'string' || sessionId === undefined) {
    return undefined
  }
  const key = { serverId, sessionId }
  if (kind === 'invalidate' || kind === 'offered') return { kind, origin, key }
  if (kind === 'announced' && isObject(announced)) return { kind, origin, key, message: announced }
  return undefined
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
