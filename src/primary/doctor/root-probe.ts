/**
 * Proves that replicas share a storage root. Each has a file under it that is named by its id, which is random and which the others know from the
 * shared store: whoever sees that file is on the same volume.
 */
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

/** Milliseconds between two looks. A replica counts as elsewhere when two in a row don't find its file. */
const LOOK_MS = 2_000
/** Milliseconds between two renewals of the own file. */
const RENEW_MS = 600_000
/** Files that nobody renewed for this long go, in milliseconds by the clock of the file system: their replicas ended without a word. */
const FORGET_MS = 86_400_000

/** What a probe works with. */
export interface RootProbeOptions {
  readonly root: string
  readonly replicaId: string
  /** The replicas that share the store now. */
  readonly replicas: () => readonly string[]
  /** Hears of replicas that use another root, once each time that becomes known. */
  readonly onElsewhere: (ids: readonly string[]) => void
  /** Hears when none does any more. */
  readonly onTogether: () => void
  /** The own file could not be written. */
  readonly onError: (error: unknown) => void
  readonly lookMs?: number
}

/** The file of a replica. */
export function replicaFile(root: string, replicaId: string): string {
  return join(directoryOf(root), replicaId)
}

/** See the file comment. */
export class RootProbe {
  readonly #options: RootProbeOptions
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined
  /** Not found in the last look. */
  #missing: ReadonlySet<string> = new Set()
  #elsewhere: ReadonlySet<string> = new Set()
  #writtenAtMs = 0

  constructor(options: RootProbeOptions) {
    this.#options = options
  }

  /** How many replicas use another root. */
  get elsewhere(): number {
    return this.#elsewhere.size
  }

  /** Writes the own file: to be done before others learn of this replica. Rejects when it can't be written. */
  async announce(): Promise<void> {
    await this.#write()
    await this.#removeOld()
  }

  /** Begins to look for the files of the others. */
  start(): void {
    this.#timer = setInterval(() => this.#begin(), this.#options.lookMs ?? LOOK_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
    const { root, replicaId } = this.#options
    await rm(replicaFile(root, replicaId), { force: true })
  }

  #begin(): void {
    this.#looking ??= this.#look()
      .catch((error: unknown) => this.#options.onError(error))
      .finally(() => (this.#looking = undefined))
  }

  async #look(): Promise<void> {
    const { root, replicaId, replicas, onElsewhere, onTogether } = this.#options
    const isOld = performance.now() - this.#writtenAtMs > RENEW_MS
    // The volume may have been mounted only now, or somebody tidied up.
    if (isOld || !(await exists(replicaFile(root, replicaId)))) await this.#write()
    const others = replicas().filter((id) => id !== replicaId)
    const found = await Promise.all(others.map((id) => exists(replicaFile(root, id))))
    const missing = new Set(others.filter((_id, index) => found[index] !== true))
    const known = this.#elsewhere
    const elsewhere = new Set([...missing].filter((id) => this.#missing.has(id)))
    this.#missing = missing
    this.#elsewhere = elsewhere
    const fresh = [...elsewhere].filter((id) => !known.has(id))
    if (fresh.length > 0) onElsewhere(fresh)
    if (known.size > 0 && elsewhere.size === 0) onTogether()
  }

  async #write(): Promise<void> {
    const { root, replicaId } = this.#options
    await mkdir(directoryOf(root), { recursive: true })
    const about = { host: hostname(), pid: process.pid, writtenAt: new Date().toISOString() }
    await writeFile(replicaFile(root, replicaId), `${JSON.stringify(about)}\n`, { mode: 0o600 })
    this.#writtenAtMs = performance.now()
  }

  async #removeOld(): Promise<void> {
    const { root, replicaId } = this.#options
    const { mtimeMs } = await stat(replicaFile(root, replicaId))
    const names = await readdir(directoryOf(root))
    await Promise.all(
      names.map(async (name) => {
        const path = replicaFile(root, name)
        const found = await stat(path).catch(() => undefined)
        if (found !== undefined && mtimeMs - found.mtimeMs > FORGET_MS) {
          await rm(path, { force: true })
        }
      }),
    )
  }
}

function directoryOf(root: string): string {
  return join(root, 'state', 'replicas')
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
