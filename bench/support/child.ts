/** Child processes of a run: each is started with a known pid, awaited until it says that it is ready, and ended by that pid. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'

/** How long a child may take to end by itself after SIGTERM, in milliseconds. */
const STOP_GRACE_MS = 8_000

const running = new Set<ChildProcess>()

// A run that ends early, by an error or by Ctrl-C, leaves nothing behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** What to start. */
export interface ChildOptions {
  /** For error messages. */
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** A line of standard output that says that the child is ready; its groups are `ready` of the child. */
  readonly readyPattern: RegExp
  readonly readyWithinMs?: number
}

/** A child that is ready. */
export interface Child {
  readonly pid: number
  /** The match of `readyPattern`. */
  readonly ready: RegExpExecArray
  /** The last that it wrote to standard error. */
  errorText(): string
  /** Ends it: SIGTERM, then SIGKILL. Idempotent. */
  stop(): Promise<void>
}

/** Starts a child and waits until it is ready; rejects, with the child ended, when it exits or does not say so in time. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const { name, command, args, env, readyPattern, readyWithinMs = 20_000 } = options
  const child = spawn(command, [...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  track(child)
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4_000)
  })
  const end = stopper(child)
  try {
    const ready = await readyLine(child, readyPattern, readyWithinMs)
    // A started child has a pid.
    return { pid: child.pid ?? -1, ready, errorText: () => errors, stop: end }
  } catch (error) {
    await end()
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`${name}: ${reason}\n${errors.trim()}`, { cause: error })
  }
}

/** Has the child ended when this process ends. */
export function track(child: ChildProcess): void {
  running.add(child)
  child.once('exit', () => running.delete(child))
  child.once('error', () => running.delete(child))
}

/** A function that ends the child once, whoever calls it. */
export function stopper(child: ChildProcess): () => Promise<void> {
  let stopping: Promise<void> | undefined
  return () => (stopping ??= stop(child))
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const limit = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS)
  await exited
  clearTimeout(limit)
}

function readyLine(
  child: ChildProcess,
  pattern: RegExp,
  withinMs: number,
): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    let text = ''
    const limit = setTimeout(
      () => reject(new Error(`not ready after ${withinMs} ms; it wrote: ${text}`)),
      withinMs,
    )
    const settle = (act: () => void): void => {
      clearTimeout(limit)
      act()
    }
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text = (text + chunk).slice(-4_000)
      const match = pattern.exec(text)
      if (match !== null) settle(() => resolve(match))
    })
    child.once('error', (error) => settle(() => reject(error)))
    child.once('exit', (code, signal) =>
      settle(() =>
        reject(new Error(`exited with ${code ?? signal ?? 'nothing'}; it wrote: ${text}`)),
      ),
    )
  })
}
