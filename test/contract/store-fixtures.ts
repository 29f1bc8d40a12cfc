/** Records and policies for tests of the state store. */
import { randomBytes } from 'node:crypto'

import { mintArtifactId, mintSessionId, mintUploadId } from '../../src/shared/ids.ts'
import type {
  FileRef,
  NewArtifact,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from '../../src/shared/state/records.ts'
import type {
  ArtifactCommitted,
  ArtifactId,
  Reserved,
  StateStore,
  StorePolicy,
  SweepReport,
  UploadId,
} from '../../src/shared/state/store.ts'

/** No limits, and lifetimes that differ from each other. */
export const OPEN_POLICY: StorePolicy = {
  maxActiveSessions: null,
  idleTtlMs: null,
  allowRevival: true,
  tombstoneTtlMs: 100_000,
  maxSessionBytes: null,
  maxTotalBytes: null,
  maxArtifactsPerSession: null,
  uploadTtlMs: null,
  artifactTtlMs: null,
  pendingGraceMs: 5_000,
  evictionPolicy: 'lru_uploads_then_artifacts',
  maxInFlightPerSession: null,
  requestRate: null,
  callLeaseMs: 2_000,
  streamLeaseMs: 1_000,
}

export function policyWith(changes: Partial<StorePolicy>): StorePolicy {
  return { ...OPEN_POLICY, ...changes }
}

export function newSession(changes: Partial<SessionRecord> = {}): SessionRecord {
  return {
    schemaVersion: 1,
    serverId: 'files',
    sessionId: mintSessionId(),
    createdAtMs: 1,
    protocolVersion: '2025-11-25',
    upstreamSessionId: 'upstream-1',
    initializeParams: { clientInfo: { name: 'Zoë', version: '1' }, capabilities: {} },
    upstreamHas: { tools: true, resources: false },
    ...changes,
  }
}

export function newUpload(sizeBytes: number): UploadRecord {
  return {
    uploadId: mintUploadId(),
    filename: '報告.pdf',
    mimeType: 'application/pdf',
    sizeBytes,
    sha256: randomBytes(32).toString('hex'),
    createdAtMs: 7,
  }
}

export function newArtifact(): NewArtifact {
  return {
    artifactId: mintArtifactId(),
    filename: 'shot.png',
    toolName: 'browser_take_screenshot',
    exposeAsResource: true,
  }
}

/** What a finished artifact file is known to be. */
export function finalOf(sizeBytes: number): {
  filename: string
  mimeType: string
  sizeBytes: number
  sha256: string
} {
  return { filename: 'shot-1.png', mimeType: 'image/png', sizeBytes, sha256: 'ab'.repeat(32) }
}

/** Sweeps as somebody who excludes others; throws when fenced. */
export async function sweptBy(
  store: StateStore,
  limit: number,
  aliveKeys: readonly SessionKey[],
): Promise<SweepReport> {
  const report = await store.sweep(limit, aliveKeys, null)
  if (report === 'fenced') throw new Error('nobody else should have been there')
  return report
}

/** Opens a session; throws when there is no slot. */
export async function opened(store: StateStore, record = newSession()): Promise<SessionRecord> {
  const outcome = await store.openSession(record)
  if (outcome !== 'opened') throw new Error(outcome)
  return record
}

/** Reserves; throws when refused. */
export async function reserved(
  store: StateStore,
  session: SessionRecord,
  bytes: number,
): Promise<Extract<Reserved, { ok: true }>> {
  const outcome = await store.reserveBytes(session, bytes)
  if (!outcome.ok) throw new Error(outcome.reason)
  return outcome
}

/** Stores one upload of this size the whole way; throws when refused. */
export async function uploaded(
  store: StateStore,
  session: SessionRecord,
  sizeBytes: number,
): Promise<UploadId> {
  const { reservationId } = await reserved(store, session, sizeBytes)
  const upload = newUpload(sizeBytes)
  const outcome = await store.commitUploads(session, reservationId, [upload])
  if (!outcome.ok) throw new Error(outcome.reason)
  return upload.uploadId
}

/** Stores one artifact of this size the whole way; throws when refused a slot. */
export async function produced(
  store: StateStore,
  session: SessionRecord,
  sizeBytes: number,
): Promise<{ id: ArtifactId; outcome: ArtifactCommitted }> {
  const artifact = newArtifact()
  const outcome = await store.allocateArtifact(session, artifact)
  if (outcome !== 'allocated') throw new Error(outcome)
  return {
    id: artifact.artifactId,
    outcome: await store.commitArtifact(session, artifact.artifactId, finalOf(sizeBytes)),
  }
}

/** The reference to an item of a session. */
export function refTo(
  { serverId, sessionId }: SessionKey,
  kind: FileRef['kind'],
  id: string,
): FileRef {
  return { serverId, sessionId, kind, id }
}
