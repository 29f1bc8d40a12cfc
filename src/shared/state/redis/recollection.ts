/**
 * What this replica has seen of sessions in the shared store: enough to go on with them when that can't be reached. Bounded; the sessions that were
 * used longest ago are forgotten first. Never used to answer anything while the store can be reached.
 */
import type {
  ArtifactRecord,
  NewArtifact,
  SessionKey,
  SessionRecord,
  UploadRecord,
} from '../records.ts'
import type { StoreRequest, StoreValue, StoreVerb } from '../store-requests.ts'
import type { StateStore } from '../store.ts'
import { nameOf } from './keys.ts'

/** Sessions that are remembered. */
const MAX_SESSIONS = 10_000
/** Items that are remembered of one session; the newest. */
const MAX_ITEMS = 1_000

/** Who held the upstream's standalone stream of a session, as far as seen. */
export interface SeenStream {
  readonly holder: string
  readonly epoch: number
}

/** A session as it was seen last. */
export interface Recalled {
  record: SessionRecord | undefined
  readonly uploads: Map<string, UploadRecord>
  readonly artifacts: Map<string, ArtifactRecord>
  readonly pending: Map<string, NewArtifact>
  stream: SeenStream | undefined
}

/** What is learnt from each request and its outcome. */
type Notes = {
  readonly [V in StoreVerb]?: (
    args: Readonly<Parameters<StateStore[V]>>,
    value: StoreValue<V>,
  ) => void
}

/** See the file comment. */
export class Recollection {
  /** The one that was used longest ago comes first. */
  readonly #sessions = new Map<string, Recalled>()
  readonly #notes: Notes = {
    openSession: ([record], outcome) => {
      if (outcome === 'opened') this.#of(record).record = record
    },
    readSession: ([key], view) => {
      if (view === undefined || view.terminalReason !== null) this.#drop(key)
      else this.#of(key).record = view.record
    },
    reviveSession: ([key], outcome) => {
      if (outcome === 'gone') this.#drop(key)
    },
    replaceUpstreamSession: ([next], isReplaced) => {
      if (isReplaced) this.#of(next).record = next
      else this.forgetRecord(next)
    },
    closeSession: ([key]) => this.#drop(key),
    reserveBytes: ([key], outcome) => {
      if (outcome.ok) this.#removeItems(key, outcome.evicted)
    },
    commitUploads: ([key, , uploads], outcome) => {
      if (outcome.ok) this.#sawUploads(key, uploads)
    },
    resolveUploads: ([key], outcome) => {
      if (outcome.ok) this.#sawUploads(key, outcome.uploads)
    },
    allocateArtifact: ([key, artifact], outcome) => {
      if (outcome === 'allocated') keep(this.#of(key).pending, artifact.artifactId, artifact)
    },
    commitArtifact: ([key, id], outcome) => {
      if (!outcome.ok) return this.#removeItems(key, [{ id }])
      this.#sawArtifact(key, outcome.artifact)
      this.#removeItems(key, outcome.evicted)
    },
    dropArtifact: ([key, id]) => this.#removeItems(key, [{ id }]),
    listArtifacts: ([key], artifacts) => {
      for (const artifact of artifacts) this.#sawArtifact(key, artifact)
    },
    readArtifact: ([key], artifact) => {
      if (artifact !== undefined) this.#sawArtifact(key, artifact)
    },
    claimStream: ([key, holder], claim) => {
      if (claim.ok) this.#of(key).stream = { holder, epoch: claim.epoch }
    },
    releaseStream: ([key, epoch]) => {
      const session = this.#sessions.get(nameOf(key))
      if (session?.stream?.epoch === epoch) session.stream = undefined
    },
    sweep: (_args, report) => {
      if (report === 'fenced') return
      for (const file of report.files) this.#removeItems(file, [file])
      for (const record of report.sessions) this.#drop(record)
    },
    clear: () => this.#sessions.clear(),
  }

  get size(): number {
    return this.#sessions.size
  }

  /** Sessions whose record is known, those that were used last at the end. */
  *all(): IterableIterator<readonly [name: string, session: Recalled, record: SessionRecord]> {
    for (const [name, session] of this.#sessions) {
      if (session.record !== undefined) yield [name, session, session.record]
    }
  }

  /** Somebody else changed the session: its record is not known any more. */
  forgetRecord(key: SessionKey): void {
    const session = this.#sessions.get(nameOf(key))
    if (session !== undefined) session.record = undefined
  }

  /** Takes note of a request that was performed. */
  note(request: StoreRequest, value: unknown): void {
    const [verb, args] = request
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each verb has its own arguments and value, as in StoreRequest
    const take = this.#notes[verb] as ((args: unknown, value: unknown) => void) | undefined
    take?.(args, value)
  }

  /** The entry of a session, made when there is none, and now the one that was used last. */
  #of(key: SessionKey): Recalled {
    const name = nameOf(key)
    const known = this.#sessions.get(name)
    const session = known ?? {
      record: undefined,
      uploads: new Map(),
      artifacts: new Map(),
      pending: new Map(),
      stream: undefined,
    }
    this.#sessions.delete(name)
    this.#sessions.set(name, session)
    if (this.#sessions.size > MAX_SESSIONS) {
      const [oldest] = this.#sessions.keys()
      if (oldest !== undefined) this.#sessions.delete(oldest)
    }
    return session
  }

  #drop(key: SessionKey): void {
    this.#sessions.delete(nameOf(key))
  }

  #sawUploads(key: SessionKey, uploads: readonly UploadRecord[]): void {
    const session = this.#of(key)
    for (const upload of uploads) keep(session.uploads, upload.uploadId, upload)
  }

  #sawArtifact(key: SessionKey, artifact: ArtifactRecord): void {
    const session = this.#of(key)
    session.pending.delete(artifact.artifactId)
    keep(session.artifacts, artifact.artifactId, artifact)
  }

  #removeItems(key: SessionKey, items: readonly { readonly id: string }[]): void {
    const session = this.#sessions.get(nameOf(key))
    for (const { id } of items) {
      session?.uploads.delete(id)
      session?.artifacts.delete(id)
      session?.pending.delete(id)
    }
  }
}

function keep<T>(items: Map<string, T>, id: string, item: T): void {
  items.delete(id)
  items.set(id, item)
  if (items.size <= MAX_ITEMS) return
  const [oldest] = items.keys()
  if (oldest !== undefined) items.delete(oldest)
}
