/**
 * Which files one call made in its session's directory. Calls of one session may overlap, and nothing tells whose a file is but the results: a call
 * gets what its result names, and what no result names goes to the one that ends last. A state of a file is given out once. All calls of a session on
 * one replica are in one worker; of two that overlap on different replicas, both may get the same file.
 */
import type { LinearPattern } from '../../shared/config/patterns.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { ChangedFile, TreeOrder } from '../files/tree-task.ts'
import type { AdapterServices, CallContext } from './adapter.ts'
import { OWN_DIRECTORIES } from './session-root.ts'
import { ToolRefusal } from './tool-refusal.ts'

/** Calls of one session that are under way. */
interface Calls {
  count: number
  /** States of files that were given out. */
  readonly taken: Set<string>
  /** Paths in results: whose they are is known. */
  readonly named: Set<string>
}

/** What a call made. */
export interface Made {
  /** Oldest first. */
  readonly files: readonly ChangedFile[]
  /** False when the directory holds more files than are looked at: there may be others. */
  readonly isWhole: boolean
}

const underWay = new WeakMap<AdapterServices, Map<string, Calls>>()

/** See the file comment. `begin`, then `take` or `end`. */
export class DirectoryWatch {
  readonly #context: CallContext
  readonly #order: TreeOrder
  readonly #calls: Calls
  /** Undefined when there were too many files to tell new ones. */
  readonly #before: string | undefined
  #hasEnded = false

  private constructor(
    context: CallContext,
    order: TreeOrder,
    calls: Calls,
    before: string | undefined,
  ) {
    this.#context = context
    this.#order = order
    this.#calls = calls
    this.#before = before
  }

  /** Notes what is there. Rejects with `ToolRefusal` when the directory holds more than a session may. */
  static async begin(context: CallContext): Promise<DirectoryWatch> {
    const { services, key } = context
    const { digests, files, config } = services
    const directory = await files.createSessionDir(key)
    const order = { directory, without: OWN_DIRECTORIES }
    // Before the look: what another call takes from here on is known not to be this one's.
    const calls = enter(services, key)
    try {
      const { versions, bytes, isWhole } = await digests.listTree(order)
      const limit = config.sessions.maxTotalSessionSize
      if (limit !== null && bytes > limit) {
        throw new ToolRefusal(
          `The tools of this session have left ${bytes} bytes of files in its directory, which is more than a session may hold (${limit} bytes). Start a new session.`,
        )
      }
      return new DirectoryWatch(context, order, calls, isWhole ? versions : undefined)
    } catch (error) {
      leave(services, key, calls)
      throw error
    }
  }

  /** What this call made, of the files whose path has a match of one of the patterns, if there are any. `named` are paths in its result. */
  async take(named: ReadonlySet<string>, patterns: readonly LinearPattern[]): Promise<Made> {
    // At once: of two that end at the same time, one has to be the last.
    this.end()
    if (this.#before === undefined) return { files: [], isWhole: false }
    const { taken, named: namedByAny, count } = this.#calls
    for (const path of named) namedByAny.add(path)
    const { digests } = this.#context.services
    const { files, isWhole } = await digests.changesIn(this.#order, this.#before)
    const made = files.filter(({ path, version }) => {
      const isOurs = named.has(path) || (count === 0 && !namedByAny.has(path))
      if (!isOurs || taken.has(`${version} ${path}`)) return false
      return patterns.length === 0 || patterns.some((pattern) => pattern.isIn(path))
    })
    for (const { path, version } of made) taken.add(`${version} ${path}`)
    return { files: made, isWhole }
  }

  /** The call is over, and nothing is taken for it. Idempotent. */
  end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    leave(this.#context.services, this.#context.key, this.#calls)
  }
}

function enter(services: AdapterServices, key: SessionKey): Calls {
  let all = underWay.get(services)
  if (all === undefined) underWay.set(services, (all = new Map()))
  const name = nameOf(key)
  const calls = all.get(name) ?? { count: 0, taken: new Set(), named: new Set() }
  calls.count++
  all.set(name, calls)
  return calls
}

/** What was given out is known to later calls as what was there when they began. */
function leave(services: AdapterServices, key: SessionKey, calls: Calls): void {
  if (--calls.count === 0) underWay.get(services)?.delete(nameOf(key))
}

function nameOf({ serverId, sessionId }: SessionKey): string {
  return `${serverId}\n${sessionId}`
}
