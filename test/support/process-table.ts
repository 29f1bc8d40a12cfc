/** Which processes there are, by /proc. */
import { readdirSync, readFileSync } from 'node:fs'

/** Whether a process is there and not a zombie. */
export function isAlive(pid: number): boolean {
  try {
    return stateOf(pid).state !== 'Z'
  } catch {
    return false
  }
}

/** The children of a process, zombies included. */
export function childrenOf(parent: number): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return stateOf(pid).parent === parent
      } catch {
        return false
      }
    })
}

/** The command line of a process, empty when it is gone. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}

function stateOf(pid: number): { readonly state: string; readonly parent: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const [state = '', parent = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state, parent: Number(parent) }
}
