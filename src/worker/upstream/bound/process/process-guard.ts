/**
 * Sees to it that no server outlives the worker that runs it, however that ends: a small process of its own that learns of each process group and, when
 * its input closes (the worker stopped, crashed, or the adapter was killed), ends those that are left.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'

import type { Log } from '../../../../shared/log.ts'

/** `+ pid` and `- pid` on its input; the argument is how long SIGTERM may take, in seconds. Servers see their input close at the same time. */
const SCRIPT = `
trap '' INT TERM HUP
groups=''
while read -r what group; do
  kept=''
  for one in $groups; do [ "$one" = "$group" ] || kept="$kept $one"; done
  [ "$what" = '+' ] && kept="$kept $group"
  groups=$kept
done
[ -z "$groups" ] && exit 0
sleep "$1"
for one in $groups; do kill -s TERM -- "-$one" 2>/dev/null; done
sleep "$1"
for one in $groups; do kill -s KILL -- "-$one" 2>/dev/null; done
exit 0
`

/** See the file comment. One per server and worker, started with the first process. */
export class ProcessGuard {
  readonly #graceSeconds: number
  readonly #log: Log
  #child: ChildProcess | undefined

  constructor(graceSeconds: number, log: Log) {
    this.#graceSeconds = graceSeconds
    this.#log = log
  }

  /** Before the process can leave anything behind. */
  add(group: number): void {
    this.#child ??= this.#start()
    this.#write(`+ ${group}\n`)
  }

  /** The group is gone. */
  remove(group: number): void {
    this.#write(`- ${group}\n`)
  }

  /** Resolves when it has ended: at once, when no group is left. */
  async stop(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    await new Promise<void>((resolve) => {
      child.once('exit', () => resolve())
      child.once('error', () => resolve())
      child.stdin?.end()
    })
  }

  #write(line: string): void {
    const { stdin } = this.#child ?? {}
    if (stdin?.writable === true) stdin.write(line)
  }

  #start(): ChildProcess {
    // In a group of its own: what ends the adapter's must not end it first.
    const child = spawn('/bin/sh', ['-c', SCRIPT, 'process-guard', String(this.#graceSeconds)], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
      env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
    })
    const lost = (error: unknown): void => {
      if (this.#child !== child) return
      this.#log.warn(
        { err: error },
        'the guard of server processes ended: servers that ignore the end of their input may outlive a crash of the adapter',
      )
    }
    child.once('error', lost)
    child.once('exit', lost)
    child.stdin.on('error', () => {})
    return child
  }
}
