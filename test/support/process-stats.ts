/** What a process of ours uses, from /proc. */
import { readdirSync, readFileSync } from 'node:fs'

/** Resident memory in MiB. */
export function residentMib(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kib) / 1_024
}

/** Open file descriptors. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** Watches resident memory; `stop` answers the highest growth since the start, in MiB. */
export function watchMemory(pid: number): { stop(): number } {
  const beforeMib = residentMib(pid)
  let highestMib = beforeMib
  const look = (): void => {
    try {
      highestMib = Math.max(highestMib, residentMib(pid))
    } catch {
      clearInterval(timer) // the process is gone
    }
  }
  const timer = setInterval(look, 20)
  return {
    stop: () => {
      clearInterval(timer)
      look()
      return highestMib - beforeMib
    },
  }
}
