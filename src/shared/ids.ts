/** Identifiers that this adapter mints, as branded strings: only the functions here make one. */
import { randomBytes } from 'node:crypto'

declare const brand: unique symbol
/** A string that only its parser or minter may produce. */
type Branded<Name extends string> = string & { readonly [brand]: Name }

/** Our own `Mcp-Session-Id`: 32 characters of base64url, 192 random bits. */
export type SessionId = Branded<'SessionId'>
/** Names the event stream of a legacy client, and the replica that holds it: a replica's name, a dot, 32 characters of base64url with 192 random bits. */
export type LegacyStreamId = Branded<'LegacyStreamId'>
/** Identifies one stored upload inside its session: 22 characters of base64url, 128 random bits. */
export type UploadId = Branded<'UploadId'>
/** Identifies one artifact inside its session: 22 characters of base64url, 128 random bits. */
export type ArtifactId = Branded<'ArtifactId'>

const SESSION_ID = /^[A-Za-z0-9_-]{32}$/
const LEGACY_STREAM_ID = /^([A-Za-z0-9_-]{16})\.[A-Za-z0-9_-]{32}$/
const ITEM_ID = /^[A-Za-z0-9_-]{22}$/

/** Returns the text as a session id, or undefined when it can't be one of ours. */
export function parseSessionId(text: string): SessionId | undefined {
  // The pattern is the whole definition of the type.
  return SESSION_ID.test(text) ? (text as SessionId) : undefined
}

/** Returns the text as the id of a legacy stream with the name of its replica, or undefined when it can't be one. */
export function parseLegacyStreamId(
  text: string,
): { readonly id: LegacyStreamId; readonly replicaId: string } | undefined {
  const replicaId = LEGACY_STREAM_ID.exec(text)?.[1]
  return replicaId === undefined ? undefined : { id: text as LegacyStreamId, replicaId } // the pattern defines the type
}

/** Returns the text as an upload id, or undefined when it can't be one of ours. */
export function parseUploadId(text: string): UploadId | undefined {
  return ITEM_ID.test(text) ? (text as UploadId) : undefined // the pattern defines the type
}

/** Returns the text as an artifact id, or undefined when it can't be one of ours. */
export function parseArtifactId(text: string): ArtifactId | undefined {
  return ITEM_ID.test(text) ? (text as ArtifactId) : undefined // the pattern defines the type
}

/** Mints an unguessable session id. */
export function mintSessionId(): SessionId {
  return randomBytes(24).toString('base64url') as SessionId // 24 bytes make 32 characters
}

/** Mints an unguessable id for a legacy stream of this replica. */
export function mintLegacyStreamId(replicaId: string): LegacyStreamId {
  return `${replicaId}.${randomBytes(24).toString('base64url')}` as LegacyStreamId // 24 bytes make 32 characters
}

/** Mints an unguessable upload id. */
export function mintUploadId(): UploadId {
  return randomBytes(16).toString('base64url') as UploadId // 16 bytes make 22 characters
}

/** Mints an unguessable artifact id. */
export function mintArtifactId(): ArtifactId {
  return randomBytes(16).toString('base64url') as ArtifactId // 16 bytes make 22 characters
}

/** Index of the worker that owns a session: FNV-1a over the id, modulo `workers`. The same on every thread and replica. */
export function ownerOf(sessionId: string, workers: number): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < sessionId.length; i++) {
    hash ^= sessionId.charCodeAt(i)
    hash = Math.imul(hash, 0x01000193)
  }
  return (hash >>> 0) % workers
}

/** A name for this process among the replicas: a new one at every start, so that what a predecessor held is never taken for its own. */
export function mintReplicaId(): string {
  return randomBytes(12).toString('base64url')
}
