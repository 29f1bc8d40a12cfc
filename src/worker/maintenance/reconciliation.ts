/**
 * Start-up reconciliation: gives records back to files that are on disk but unknown to the store, as after a lost state database. Only the maintainer
 * does it: with several replicas one of them, while the others may be serving.
 */
/* oxlint-disable no-await-in-loop -- one file after another: the hashing thread is the bottleneck anyway */
import { SNIFF_BYTES, mimeTypeOf, sanitizeFilename } from '../../shared/files/names.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { FoundItem } from '../../shared/files/stored-items.ts'
import { parseArtifactId, parseUploadId } from '../../shared/ids.ts'
import type {
  ArtifactRecord,
  FileRef,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from '../../shared/state/records.ts'
import type { ReferencedItems, StateStore } from '../../shared/state/store.ts'
import type { DigestPool } from '../files/digest-pool.ts'
import { moveLegacyFiles } from './legacy-layout.ts'
import type { Tenure } from './maintenance-lock.ts'

/** What a reconciliation works with. */
export interface ReconciliationOptions {
  readonly tenure: Tenure
  /** `if_empty`: only when the store has no session and no tombstone. */
  readonly mode: 'disabled' | 'if_empty' | 'always'
  readonly store: StateStore
  readonly files: FileStore
  readonly digests: DigestPool
  /** Configured servers: sessions of others are left alone. */
  readonly serverIds: readonly string[]
  /** Owner of files in the layout before ours; null: the only server, when there is one. */
  readonly legacyServerId: string | null
  /** Files of sessions that the store knows stay as they are when they changed after this, in Unix milliseconds; null: none do. */
  readonly settledBeforeMs: number | null
}

/** What a reconciliation did. */
export interface ReconciliationReport {
  readonly outcome: 'disabled' | 'not_empty' | 'done' | 'ended_early'
  readonly sessions: number
  readonly uploads: number
  readonly artifacts: number
  readonly movedLegacyFiles: number
  /** Files that could not be adopted, legacy ones without a server included. */
  readonly skipped: number
}

/** Rejects when the store fails; a file that can't be read is skipped. Ends early with the tenure: what was adopted by then stays so. */
export async function reconcile(options: ReconciliationOptions): Promise<ReconciliationReport> {
  if (options.mode === 'disabled') return { ...NOTHING, outcome: 'disabled' }
  if (options.mode === 'if_empty') {
    const { sessions, tombstones } = await options.store.inventory()
    if (sessions + tombstones > 0) return { ...NOTHING, outcome: 'not_empty' }
  }
  const [only, ...others] = options.serverIds
  const legacyServer = options.legacyServerId ?? (others.length === 0 ? (only ?? null) : null)
  const legacy = await moveLegacyFiles(options.files, legacyServer)
  const totals = { sessions: 0, uploads: 0, artifacts: 0, skipped: legacy.left }
  for await (const key of options.files.listSessions()) {
    if (!options.serverIds.includes(key.serverId)) continue
    const found = await findUnknown(options, key)
    if (!options.tenure.holds) {
      return { outcome: 'ended_early', ...totals, movedLegacyFiles: legacy.moved }
    }
    totals.skipped += found.skipped
    const createdAtMs = Math.min(
      ...[...found.uploads, ...found.artifacts].map((item) => item.createdAtMs),
    )
    if (!Number.isFinite(createdAtMs)) continue
    await options.store.adopt(sessionOf(key, createdAtMs), found.uploads, found.artifacts)
    totals.sessions++
    totals.uploads += found.uploads.length
    totals.artifacts += found.artifacts.length
  }
  return { outcome: 'done', ...totals, movedLegacyFiles: legacy.moved }
}

const NOTHING = { sessions: 0, uploads: 0, artifacts: 0, movedLegacyFiles: 0, skipped: 0 } as const

interface Found {
  readonly uploads: UploadRecord[]
  readonly artifacts: ArtifactRecord[]
  skipped: number
}

/** What is on disk is listed before the store is asked: what is committed meanwhile has a record then. */
async function findUnknown(options: ReconciliationOptions, key: SessionKey): Promise<Found> {
  const items: FoundItem[] = []
  for await (const item of options.files.listItems(key)) items.push(item)
  const known = await options.store.referencedItems(key)
  const found: Found = { uploads: [], artifacts: [], skipped: 0 }
  for (const item of items) {
    if (known !== undefined && !isAbandoned(options, item, known)) continue
    const isAdopted = await adoptItem(options, item, found).catch(() => false)
    if (!isAdopted) found.skipped++
  }
  return found
}

/** Whether an item of a session that the store knows has no record and is not about to get one from somebody who works on it now. */
function isAbandoned(
  { settledBeforeMs }: ReconciliationOptions,
  { ref, newestMtimeMs }: FoundItem,
  known: ReferencedItems,
): boolean {
  if (known[ref.kind].includes(ref.id)) return false
  return settledBeforeMs === null || (!known.isReserving && newestMtimeMs < settledBeforeMs)
}

/** The youngest file that is not hidden: temporary files are, whoever made them. */
async function adoptItem(
  options: ReconciliationOptions,
  item: FoundItem,
  found: Found,
): Promise<boolean> {
  const file = item.files.find((candidate) => !candidate.name.startsWith('.'))
  if (file === undefined || sanitizeFilename(file.name, '') !== file.name) return false
  const uploadId = parseUploadId(item.ref.id)
  const artifactId = parseArtifactId(item.ref.id)
  if (uploadId === undefined || artifactId === undefined) return false
  const { sha256, sizeBytes } = await options.digests.digestFile(
    options.files.itemPath(item.ref, file.name),
  )
  const common = {
    filename: file.name,
    mimeType: await sniffType(options.files, item.ref, file.name),
    sizeBytes,
    sha256,
    createdAtMs: Math.floor(file.mtimeMs),
  }
  if (item.ref.kind === 'uploads') {
    found.uploads.push({ uploadId, ...common })
  } else {
    found.artifacts.push({ artifactId, toolName: 'unknown', exposeAsResource: true, ...common })
  }
  return true
}

async function sniffType(files: FileStore, ref: FileRef, filename: string): Promise<string> {
  const { handle } = await files.openItem(ref, filename)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(SNIFF_BYTES), 0, SNIFF_BYTES, 0)
    return mimeTypeOf(filename, buffer.subarray(0, bytesRead))
  } finally {
    await handle.close()
  }
}

/** Nothing is known of the upstream session: it is initialised anew when the client comes back. */
function sessionOf(key: SessionKey, createdAtMs: number): SessionRecord {
  return {
    serverId: key.serverId,
    sessionId: key.sessionId,
    schemaVersion: 1,
    createdAtMs,
    protocolVersion: '2025-11-25',
    upstreamSessionId: null,
    initializeParams: {},
    upstreamHas: { tools: true, resources: false },
  }
}
