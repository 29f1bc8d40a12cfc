/** The store's methods, each as one request: what the stores that work with requests have in common. */
import type { FinalArtifact } from './artifact-operations.ts'
import type {
  ArtifactRecord,
  NewArtifact,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from './records.ts'
import type { StoreValue, StoreVerb } from './store-requests.ts'
import type { ArtifactId, StateStore, UploadId } from './store.ts'
import type { Nonce } from './upload-operations.ts'

/** Implements every operation of `StateStore` by `perform`. */
export abstract class RequestStore implements StateStore {
  /** Performs one request. */
  protected abstract perform<V extends StoreVerb>(
    verb: V,
    args: Parameters<StateStore[V]>,
  ): Promise<StoreValue<V>>

  abstract onInvalidate(listener: (key: SessionKey) => void): void

  abstract close(): Promise<void>

  openSession(record: SessionRecord): Promise<StoreValue<'openSession'>> {
    return this.perform('openSession', [record])
  }

  readSession(key: SessionKey): Promise<StoreValue<'readSession'>> {
    return this.perform('readSession', [key])
  }

  reviveSession(key: SessionKey): Promise<StoreValue<'reviveSession'>> {
    return this.perform('reviveSession', [key])
  }

  touchSessions(keys: readonly SessionKey[]): Promise<void> {
    return this.perform('touchSessions', [keys])
  }

  replaceUpstreamSession(next: SessionRecord, expected: string | null): Promise<boolean> {
    return this.perform('replaceUpstreamSession', [next, expected])
  }

  closeSession(key: SessionKey): Promise<SessionRecord | undefined> {
    return this.perform('closeSession', [key])
  }

  reserveBytes(
    key: SessionKey,
    bytes: number,
    reservationId?: string,
  ): Promise<StoreValue<'reserveBytes'>> {
    return this.perform('reserveBytes', [key, bytes, reservationId])
  }

  releaseBytes(reservationId: string): Promise<void> {
    return this.perform('releaseBytes', [reservationId])
  }

  commitUploads(
    key: SessionKey,
    reservationId: string,
    uploads: readonly UploadRecord[],
    nonce?: Nonce,
  ): Promise<StoreValue<'commitUploads'>> {
    return this.perform('commitUploads', [key, reservationId, uploads, nonce])
  }

  isNonceUsed(nonce: string): Promise<boolean> {
    return this.perform('isNonceUsed', [nonce])
  }

  resolveUploads(key: SessionKey, ids: readonly UploadId[]): Promise<StoreValue<'resolveUploads'>> {
    return this.perform('resolveUploads', [key, ids])
  }

  allocateArtifact(
    key: SessionKey,
    artifact: NewArtifact,
  ): Promise<StoreValue<'allocateArtifact'>> {
    return this.perform('allocateArtifact', [key, artifact])
  }

  touchPending(key: SessionKey, ids: readonly ArtifactId[]): Promise<void> {
    return this.perform('touchPending', [key, ids])
  }

  commitArtifact(
    key: SessionKey,
    id: ArtifactId,
    final: FinalArtifact,
  ): Promise<StoreValue<'commitArtifact'>> {
    return this.perform('commitArtifact', [key, id, final])
  }

  dropArtifact(key: SessionKey, id: ArtifactId): Promise<void> {
    return this.perform('dropArtifact', [key, id])
  }

  listArtifacts(key: SessionKey): Promise<readonly ArtifactRecord[]> {
    return this.perform('listArtifacts', [key])
  }

  readArtifact(key: SessionKey, id: ArtifactId): Promise<ArtifactRecord | undefined> {
    return this.perform('readArtifact', [key, id])
  }

  sweep(limit: number, aliveKeys: readonly SessionKey[]): Promise<StoreValue<'sweep'>> {
    return this.perform('sweep', [limit, aliveKeys])
  }

  referencedItems(key: SessionKey): Promise<StoreValue<'referencedItems'>> {
    return this.perform('referencedItems', [key])
  }

  adopt(
    session: SessionRecord,
    uploads: readonly UploadRecord[],
    artifacts: readonly ArtifactRecord[],
  ): Promise<void> {
    return this.perform('adopt', [session, uploads, artifacts])
  }

  recoverAfterCrash(): Promise<StoreValue<'recoverAfterCrash'>> {
    return this.perform('recoverAfterCrash', [])
  }

  clear(): Promise<void> {
    return this.perform('clear', [])
  }

  inventory(): Promise<StoreValue<'inventory'>> {
    return this.perform('inventory', [])
  }
}
