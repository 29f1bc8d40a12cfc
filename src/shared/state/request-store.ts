/** The store's methods, each as one request: what the stores that work with requests have in common. */
import type { FinalArtifact } from './artifact-operations.ts'
import type {
  ArtifactRecord,
  JsonObject,
  NewArtifact,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from './records.ts'
import type { StoreValue, StoreVerb } from './store-requests.ts'
import type {
  ArtifactId,
  CallsEntered,
  StateStore,
  StreamClaim,
  StreamLease,
  StreamRelease,
  UploadId,
} from './store.ts'
import type { Nonce } from './upload-operations.ts'

/** Implements every operation of `StateStore` by `perform`. */
export abstract class RequestStore implements StateStore {
  /** Performs one request. */
  protected abstract perform<V extends StoreVerb>(
    verb: V,
    args: Parameters<StateStore[V]>,
  ): Promise<StoreValue<V>>

  abstract onInvalidate(listener: (key: SessionKey) => void): void

  abstract onStreamOffered(listener: (key: SessionKey) => void): void

  abstract onAnnounced(listener: (key: SessionKey, message: JsonObject) => void): void

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

  touchSessions(keys: readonly SessionKey[]): Promise<StoreValue<'touchSessions'>> {
    return this.perform('touchSessions', [keys])
  }

  replaceUpstreamSession(next: SessionRecord, expected: string | null): Promise<boolean> {
    return this.perform('replaceUpstreamSession', [next, expected])
  }

  claimReinitialisation(
    key: SessionKey,
    holder: string,
    lost: string | null,
    leaseMs: number,
  ): Promise<StoreValue<'claimReinitialisation'>> {
    return this.perform('claimReinitialisation', [key, holder, lost, leaseMs])
  }

  endReinitialisation(key: SessionKey, holder: string): Promise<void> {
    return this.perform('endReinitialisation', [key, holder])
  }

  pinCatalogue(key: SessionKey, tools: string): Promise<string | undefined> {
    return this.perform('pinCatalogue', [key, tools])
  }

  noteDrift(key: SessionKey, drift: string | null): Promise<boolean> {
    return this.perform('noteDrift', [key, drift])
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

  releaseBytes(key: SessionKey, reservationId: string): Promise<void> {
    return this.perform('releaseBytes', [key, reservationId])
  }

  commitUploads(
    key: SessionKey,
    reservationId: string,
    uploads: readonly UploadRecord[],
    nonce?: Nonce,
  ): Promise<StoreValue<'commitUploads'>> {
    return this.perform('commitUploads', [key, reservationId, uploads, nonce])
  }

  isNonceUsed(key: SessionKey, nonce: string): Promise<boolean> {
    return this.perform('isNonceUsed', [key, nonce])
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

  enterCalls(
    key: SessionKey,
    leaseId: string,
    count: number,
    spare: number,
  ): Promise<CallsEntered> {
    return this.perform('enterCalls', [key, leaseId, count, spare])
  }

  leaveCalls(key: SessionKey, leaseId: string): Promise<void> {
    return this.perform('leaveCalls', [key, leaseId])
  }

  takeRequests(principal: string, count: number): Promise<StoreValue<'takeRequests'>> {
    return this.perform('takeRequests', [principal, count])
  }

  keepAlive(sessions: Parameters<StateStore['keepAlive']>[0]): Promise<void> {
    return this.perform('keepAlive', [sessions])
  }

  claimStream(key: SessionKey, holder: string, expected: number | null): Promise<StreamClaim> {
    return this.perform('claimStream', [key, holder, expected])
  }

  renewStreams(holder: string, leases: readonly StreamLease[]): Promise<readonly SessionKey[]> {
    return this.perform('renewStreams', [holder, leases])
  }

  releaseStream(key: SessionKey, epoch: number, how: StreamRelease): Promise<void> {
    return this.perform('releaseStream', [key, epoch, how])
  }

  abandonedStreams(lost: readonly string[], limit: number): Promise<readonly StreamLease[]> {
    return this.perform('abandonedStreams', [lost, limit])
  }

  keepEvents(key: SessionKey, epoch: number, events: readonly string[]): Promise<boolean> {
    return this.perform('keepEvents', [key, epoch, events])
  }

  takeEvents(key: SessionKey, epoch: number): Promise<readonly string[]> {
    return this.perform('takeEvents', [key, epoch])
  }

  announce(key: SessionKey, message: JsonObject): Promise<void> {
    return this.perform('announce', [key, message])
  }

  electMaintainer(holder: string, leaseMs: number): Promise<number | null> {
    return this.perform('electMaintainer', [holder, leaseMs])
  }

  resignMaintainer(holder: string): Promise<void> {
    return this.perform('resignMaintainer', [holder])
  }

  sweep(
    limit: number,
    aliveKeys: readonly SessionKey[],
    fence: number | null,
  ): Promise<StoreValue<'sweep'>> {
    return this.perform('sweep', [limit, aliveKeys, fence])
  }

  repairCounters(fence: number | null): Promise<StoreValue<'repairCounters'>> {
    return this.perform('repairCounters', [fence])
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
