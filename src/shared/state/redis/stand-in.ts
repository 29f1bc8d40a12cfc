/**
 * Takes the place of the shared store, in the memory of this process, while that can't be reached (`fallback_memory`). It begins with the sessions
 * that this replica had seen. Other replicas know nothing of it, so it never decides what is everybody's: nothing is swept, nobody maintains, and
 * nobody is told that a file has no record.
 */
import { StoreUnavailableError } from '../../errors.ts'
import { LocalLeases } from '../lease-table.ts'
import { openLocalStore } from '../open.ts'
import type { LocalStoreOptions } from '../open.ts'
import type { SessionKey, SessionRecord } from '../records.ts'
import type { SqlStore } from '../sql-store.ts'
import type {
  BatchStore,
  Invalidation,
  StoreAnswer,
  StoreBatch,
  StoreRequest,
  StoreVerb,
} from '../store-requests.ts'
import { nameOf } from './keys.ts'
import type { Recalled, Recollection } from './recollection.ts'

/** Sessions that are written back at the same time. */
const PARALLEL = 16

/** A session as it was when the stand-in took over. */
interface Before {
  readonly record: SessionRecord
  /** Ids of its uploads and artifacts, pending ones apart. */
  readonly items: ReadonlySet<string>
  readonly pending: ReadonlySet<string>
}

type Perform = (request: StoreRequest) => Promise<unknown>

/** What became of the sessions when the shared store was back. */
export interface HandBack {
  readonly kept: number
  readonly lost: number
}

/** See the file comment. */
export class StandIn implements BatchStore {
  readonly #store: SqlStore
  readonly #recollection: Recollection
  readonly #before = new Map<string, Before>()
  /** Sessions that were closed here. */
  readonly #closed = new Map<string, SessionKey>()

  /** Opens it with what is known. `recollection` goes on being told what happens. */
  constructor(options: LocalStoreOptions, recollection: Recollection) {
    this.#recollection = recollection
    const leases = new LocalLeases()
    this.#store = openLocalStore(options, { leases })
    const requests: StoreRequest[] = []
    for (const [name, { uploads, artifacts, pending, stream }, record] of recollection.all()) {
      const items = new Set([...uploads.keys(), ...artifacts.keys()])
      this.#before.set(name, { record, items, pending: new Set(pending.keys()) })
      requests.push(['adopt', [record, [...uploads.values()], [...artifacts.values()]]])
      for (const artifact of pending.values()) {
        requests.push(['allocateArtifact', [record, artifact]])
      }
      if (stream !== undefined) {
        leases.restoreStream(record, stream, Date.now() + options.policy.streamLeaseMs)
      }
    }
    this.#store.performAll(requests)
  }

  /** Sessions that it began with. */
  get adopted(): number {
    return this.#before.size
  }

  performAll(requests: readonly StoreRequest[]): StoreBatch {
    const places: number[] = []
    const passed: StoreRequest[] = []
    const answers: StoreAnswer[] = requests.map((request, place) => {
      const answer = STANDING[request[0]]
      if (answer !== undefined) return answer
      places.push(place)
      passed.push(request)
      return NOT_YET
    })
    const batch = this.#store.performAll(passed)
    for (const [index, request] of passed.entries()) {
      const answer = batch.answers[index] ?? NOT_YET
      answers[places[index] ?? -1] = answer
      if (answer.ok) this.#note(request, answer.value)
    }
    const invalidated: Invalidation[] = batch.invalidated.map(({ key, by }) => ({
      key,
      by: by === undefined ? undefined : places[by],
    }))
    return { answers, invalidated }
  }

  async close(): Promise<void> {
    await this.#store.close()
  }

  /**
   * Brings what changed here into the shared store. `wasEmptied`: that has lost what it had, so that everything is new to it. What does not get there
   * before `deadlineAtMs` (monotonic) is lost.
   */
  async handBack(
    perform: Perform,
    { wasEmptied, deadlineAtMs }: { readonly wasEmptied: boolean; readonly deadlineAtMs: number },
  ): Promise<HandBack> {
    const tasks = [...this.#tasks(perform, wasEmptied)]
    let kept = 0
    const next = async (): Promise<void> => {
      for (let task = tasks.pop(); task !== undefined; task = tasks.pop()) {
        if (performance.now() > deadlineAtMs) continue
        // oxlint-disable-next-line no-await-in-loop -- so many at a time as there are callers
        if (await task().catch(() => false)) kept++
      }
    }
    const all = tasks.length
    await Promise.all(Array.from({ length: PARALLEL }, next))
    return { kept, lost: all - kept }
  }

  #note(request: StoreRequest, value: unknown): void {
    this.#recollection.note(request, value)
    const [verb, args] = request
    if (verb === 'closeSession') this.#closed.set(nameOf(args[0]), args[0])
  }

  /** One for each session; answers whether the session is in the shared store after it. */
  *#tasks(perform: Perform, wasEmptied: boolean): IterableIterator<() => Promise<boolean>> {
    for (const [name, session, record] of this.#recollection.all()) {
      const before = wasEmptied ? undefined : this.#before.get(name)
      yield () => bringBack(perform, { record, session, before })
    }
    for (const key of this.#closed.values()) {
      yield async () => {
        await perform(['closeSession', [key]])
        return true
      }
    }
  }
}

/** Makes the shared store agree with a session; `before` is what that had already. */
async function bringBack(
  perform: Perform,
  {
    record,
    session,
    before,
  }: {
    readonly record: SessionRecord
    readonly session: Recalled
    readonly before: Before | undefined
  },
): Promise<boolean> {
  if (before !== undefined) {
    // Whoever could reach the store meanwhile may have ended the session, and is right.
    if ((await perform(['readSession', [record]])) === undefined) return true
    const upstream = before.record.upstreamSessionId
    if (record.upstreamSessionId !== upstream) {
      await perform(['replaceUpstreamSession', [record, upstream]])
    }
  }
  const isNew = (id: string): boolean => before?.items.has(id) !== true
  const uploads = [...session.uploads.values()].filter(({ uploadId }) => isNew(uploadId))
  const artifacts = [...session.artifacts.values()].filter((item) => isNew(item.artifactId))
  // Those that were pending there already are committed as they would have been.
  for (const { artifactId, filename, mimeType, sizeBytes, sha256 } of artifacts) {
    if (before?.pending.has(artifactId) !== true) continue
    const final = { filename, mimeType, sizeBytes, sha256 }
    // oxlint-disable-next-line no-await-in-loop -- a few at most: calls that were under way
    await perform(['commitArtifact', [record, artifactId, final]])
  }
  const isUnchanged = uploads.length === 0 && artifacts.length === 0
  if (before === undefined || !isUnchanged) {
    await perform(['adopt', [record, uploads, artifacts]])
  }
  for (const artifact of session.pending.values()) {
    if (before?.pending.has(artifact.artifactId) === true) continue
    // oxlint-disable-next-line no-await-in-loop -- a few at most: calls that are under way
    await perform(['allocateArtifact', [record, artifact]])
  }
  return true
}

const NOT_YET: StoreAnswer = {
  ok: false,
  error: new StoreUnavailableError('the stand-in of the state store did not answer'),
}

const ONLY_SHARED: StoreAnswer = {
  ok: false,
  error: new StoreUnavailableError('only the shared state store, which is away, can do this'),
}

/** Answers that don't depend on what is stored here. */
const STANDING: { readonly [V in StoreVerb]?: StoreAnswer } = {
  electMaintainer: { ok: true, value: null },
  sweep: { ok: true, value: 'fenced' },
  repairCounters: { ok: true, value: 'fenced' },
  recoverAfterCrash: { ok: true, value: [] },
  referencedItems: ONLY_SHARED,
  adopt: ONLY_SHARED,
  clear: ONLY_SHARED,
}
