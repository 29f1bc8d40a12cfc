/** Watches how much memory process groups have resident (Linux: /proc), and tells of those that have too much. */
import { readdir, readFile } from 'node:fs/promises'

/** Time between two looks, in milliseconds. */
const INTERVAL_MS = 2_000

/** See the file comment. Does nothing while there is no group. */
export class MemoryWatch {
  readonly #maxBytes: number
  readonly #groups = new Map<number, (bytes: number) => void>()
  #timer: NodeJS.Timeout | undefined

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** `onTooMuch` is told what the group has, each time it is more than the limit. */
  add(group: number, onTooMuch: (bytes: number) => void): void {
    this.#groups.set(group, onTooMuch)
    this.#timer ??= setTimeout(() => void this.#look(), INTERVAL_MS)
  }

  remove(group: number): void {
    this.#groups.delete(group)
    if (this.#groups.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  async #look(): Promise<void> {
    const resident = await residentBytes(new Set(this.#groups.keys()))
    for (const [group, bytes] of resident) {
      if (bytes > this.#maxBytes) this.#groups.get(group)?.(bytes)
    }
    // There is another when all groups went, and one came, during the look.
    clearTimeout(this.#timer)
    this.#timer =
      this.#groups.size === 0 ? undefined : setTimeout(() => void this.#look(), INTERVAL_MS)
  }
}

/** Resident bytes by process group. Pages that processes share count for each. */
async function residentBytes(groups: ReadonlySet<number>): Promise<ReadonlyMap<number, number>> {
  const sums = new Map<number, number>()
  const entries = await readdir('/proc').catch(() => [])
  for (const pid of entries.filter((name) => /^\d+$/.test(name))) {
    const group = await groupOf(pid)
    if (group === undefined || !groups.has(group)) continue
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    const [, kibibytes = '0'] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? []
    sums.set(group, (sums.get(group) ?? 0) + Number(kibibytes) * 1_024)
  }
  return sums
}

/** Undefined for a process that is gone. */
async function groupOf(pid: string): Promise<number | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // `pid (name) state parent group …`, and the name may hold anything (proc_pid_stat(5)).
  const [, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return group === undefined ? undefined : Number(group)
}
