/** CPU time and memory of process trees, from /proc. Threads are part of their process there. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/** User and system time of a process and all its descendants so far, in milliseconds; counted in ticks of (usually) 10 ms. */
export function cpuMs(rootPid: number): number {
  let ticks = 0
  for (const pid of treeOf(rootPid)) {
    const fields = statFields(pid)
    // utime, stime, and those of children that ended: fields 14 to 17 of proc(5).
    for (const index of [11, 12, 13, 14]) ticks += Number(fields?.[index] ?? 0)
  }
  return (ticks * 1_000) / ticksPerSecond
}

/** Resident memory of a process and all its descendants, in bytes. */
export function residentBytes(rootPid: number): number {
  let kib = 0
  for (const pid of treeOf(rootPid)) {
    const status = readOrUndefined(`/proc/${pid}/status`)
    kib += Number(/^VmRSS:\s+(\d+) kB/m.exec(status ?? '')?.[1] ?? 0)
  }
  return kib * 1_024
}

/** How many files and sockets a process has open. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** Watches a process tree's resident memory until `stop`, which answers the largest that was seen, in bytes. */
export function watchResident(rootPid: number): { stop(): number } {
  let peak = residentBytes(rootPid)
  const look = (): void => {
    peak = Math.max(peak, residentBytes(rootPid))
  }
  const timer = setInterval(look, 50)
  // What is watched may fail without anybody coming back to stop this.
  timer.unref()
  return {
    stop: () => {
      clearInterval(timer)
      look()
      return peak
    },
  }
}

/** Resident memory once it has stopped moving (less than 0.5 % in a second), at the latest after `withinMs`. */
export async function settledResidentBytes(rootPid: number, withinMs: number): Promise<number> {
  const deadline = performance.now() + withinMs
  let last = residentBytes(rootPid)
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- looks once a second
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    const now = residentBytes(rootPid)
    if (Math.abs(now - last) < last * 0.005 || performance.now() > deadline) return now
    last = now
  }
}

function treeOf(rootPid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (Number.isInteger(pid)) parents.set(pid, Number(statFields(pid)?.[1] ?? 0))
  }
  const tree = [rootPid]
  // Grows while it is walked: children come after their parents.
  for (const parent of tree) {
    for (const [pid, itsParent] of parents) if (itsParent === parent) tree.push(pid)
  }
  return tree
}

/** The fields of /proc/<pid>/stat from the third on: the second may hold spaces. */
function statFields(pid: number): string[] | undefined {
  const text = readOrUndefined(`/proc/${pid}/stat`)
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')
}

function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // The process ended meanwhile.
    return undefined
  }
}
