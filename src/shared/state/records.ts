/** The records that outlive a request. All of them are plain data: they cross threads by structured clone and leave the process as msgpack or SQL. */
import type { ArtifactId, SessionId, UploadId } from '../ids.ts'

/** A JSON object as it came from the wire. */
export type JsonObject = { readonly [name: string]: unknown }

/** Names one session: sessions of different servers never share anything. */
export interface SessionKey {
  readonly serverId: string
  readonly sessionId: SessionId
}

/** What must be known to continue a session anywhere, its upstream session included. */
export interface SessionRecord extends SessionKey {
  /**
   * Version of this shape. Readers accept one newer too, and keep what it added: the next version may only add fields, so that replicas of both
   * versions live with each other. A field that may be absent needs no new version: who doesn't know it keeps it.
   */
  readonly schemaVersion: 1
  readonly createdAtMs: number
  /** Whose the session is (`shared/principals.ts`). Absent when it was made while authentication was off, or rebuilt from files. */
  readonly principal?: string
  /** The revision that `initialize` settled on, for example `2025-11-25`. */
  readonly protocolVersion: string
  /** The upstream's own `Mcp-Session-Id`; null when it is stateless. */
  readonly upstreamSessionId: string | null
  /** The client's `initialize` params, to initialise a lost upstream session again. */
  readonly initializeParams: JsonObject
  /** Whether the upstream itself declared these capabilities; we may have added them for the client. */
  readonly upstreamHas: { readonly tools: boolean; readonly resources: boolean }
}

/** One file that a client sent. */
export interface UploadRecord {
  readonly uploadId: UploadId
  readonly filename: string
  readonly mimeType: string
  readonly sizeBytes: number
  /** Lower-case hex. */
  readonly sha256: string
  readonly createdAtMs: number
}

/** What is known of an artifact before its file is complete. */
export interface NewArtifact {
  readonly artifactId: ArtifactId
  readonly filename: string
  readonly toolName: string
  readonly exposeAsResource: boolean
}

/** One file that a tool made. */
export interface ArtifactRecord extends NewArtifact {
  readonly mimeType: string
  readonly sizeBytes: number
  /** Lower-case hex; serves as the ETag of downloads. */
  readonly sha256: string
  readonly createdAtMs: number
}

/** Points at an item's directory in the file store. */
export interface FileRef extends SessionKey {
  readonly kind: 'uploads' | 'artifacts'
  readonly id: string
}
