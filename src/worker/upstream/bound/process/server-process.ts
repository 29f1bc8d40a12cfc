/** One process of a server that the adapter runs: its lines, its end, and the end of all that it started. */
import { spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

import { AdapterError } from '../../../../shared/errors.ts'
import type { Log } from '../../../../shared/log.ts'
import { LineSplitter } from './line-splitter.ts'
import { OutputLog } from './output-log.ts'

/** How long what a process wrote before its end may take to arrive, in milliseconds. */
const LAST_WORDS_MS = 500
/** How often it is looked whether a group is gone, in milliseconds. */
const POLL_MS = 20
/** How long after SIGKILL that is waited for, in milliseconds. */
const KILLED_WAIT_MS = 2_000
/** Most bytes that wait for a process to read them. */
const MAX_UNREAD_BYTES = 67_108_864

/** What is wrong with most commands that hold blanks. */
const ARGUMENTS_APART = 'upstream.command is one program: its arguments belong into upstream.args'

const OPEN_OBJECT = 0x7b
const OPEN_ARRAY = 0x5b
const LINE_END = Buffer.from('\n')

/** How a process is run. */
export interface ServerProcessOptions {
  readonly serverId: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string | null
  readonly maxMessageBytes: number
  readonly stopGraceMs: number
  readonly log: Log
  /** A line that may be a message. */
  readonly onLine: (line: Uint8Array) => void
  /** Once, unless it was stopped first: it ended by itself, or had to be ended. */
  readonly onLost: (error: AdapterError) => void
  /** The whole group is gone. */
  readonly onGone: (pid: number) => void
}

/** See the file comment. */
export class ServerProcess {
  readonly pid: number
  readonly #options: ServerProcessOptions
  readonly #child: ChildProcessWithoutNullStreams
  readonly #output: OutputLog
  readonly #exited: Promise<unknown>
  #isLost = false
  #ending: Promise<void> | undefined

  /** Resolves when it runs. Rejects with ADAPTER_UPSTREAM_UNREACHABLE when it can't be started. */
  static async start(options: ServerProcessOptions): Promise<ServerProcess> {
    const { command, args, env, cwd, serverId, log } = options
    try {
      if (cwd !== null) await mkdir(cwd, { recursive: true })
      const child = spawn(command, args, {
        // A group of its own: signals for the adapter are not for it, and what it starts can be ended with it.
        detached: true,
        env,
        stdio: ['pipe', 'pipe', 'pipe'],
        ...(cwd === null ? {} : { cwd }),
      })
      await once(child, 'spawn')
      return new ServerProcess(options, child)
    } catch (error) {
      const fields = { server: serverId, command, cwd, err: error }
      log.error(
        /\s/.test(command) ? { ...fields, advice: ARGUMENTS_APART } : fields,
        'server can not be started',
      )
      throw new AdapterError(
        'ADAPTER_UPSTREAM_UNREACHABLE',
        'the process of the upstream server can not be started; the log of the adapter says why',
        { cause: error },
      )
    }
  }

  private constructor(options: ServerProcessOptions, child: ChildProcessWithoutNullStreams) {
    this.#options = options
    this.#child = child
    // It was spawned.
    this.pid = child.pid ?? 0
    const { serverId, log, maxMessageBytes } = options
    this.#output = new OutputLog(log, { server: serverId, pid: this.pid })
    log.info({ server: serverId, pid: this.pid }, 'server started')
    this.#exited = new Promise((resolve) => child.once('exit', resolve))
    const lines = new LineSplitter(maxMessageBytes, (line, isCut) => this.#line(line, isCut))
    child.stdout.on('data', (chunk: Buffer) => lines.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => this.#output.push(chunk))
    child.once('exit', (code, signal) => void this.#hasExited(code, signal))
    child.stdout.once('end', () => {
      if (child.exitCode === null && child.signalCode === null) void this.#hasClosed('output')
    })
    child.stdin.on('error', () => void this.#hasClosed('input'))
    child.stdout.on('error', () => {})
    child.stderr.on('error', () => {})
    child.on('error', (error) => log.warn({ server: serverId, err: error }, 'server failed'))
  }

  /** Writes a message that is on one line. Throws ADAPTER_UPSTREAM_UNREACHABLE when it can't be delivered. */
  write(message: Uint8Array): void {
    const { stdin } = this.#child
    if (!stdin.writable || this.#isLost || this.#ending !== undefined)
      throw unreachable('the process of the upstream server has ended')
    if (stdin.writableLength > MAX_UNREAD_BYTES)
      throw unreachable('the process of the upstream server does not read what it is sent')
    stdin.cork()
    stdin.write(message)
    stdin.write(LINE_END)
    stdin.uncork()
  }

  pause(): void {
    this.#child.stdout.pause()
  }

  resume(): void {
    this.#child.stdout.resume()
  }

  /** Ends it for a reason, which is told. */
  fail(error: AdapterError): void {
    if (this.#isLost || this.#ending !== undefined) return
    this.#isLost = true
    const { serverId, log, onLost } = this.#options
    log.warn({ server: serverId, pid: this.pid, reason: error.message }, 'server is lost')
    onLost(error)
    void this.stop()
  }

  /** Ends the process and its group: its input closes, then SIGTERM, then SIGKILL. Never rejects; all callers share one end. */
  stop(): Promise<void> {
    this.#ending ??= this.#end()
    return this.#ending
  }

  async #end(): Promise<void> {
    const { stopGraceMs, onGone, serverId, log } = this.#options
    const { stdin, stdout, stderr } = this.#child
    stdin.end()
    // Else it could wait for somebody to read.
    stdout.resume()
    const isGone =
      (await this.#isGoneWithin(stopGraceMs)) ||
      (this.#signal('SIGTERM') && (await this.#isGoneWithin(stopGraceMs))) ||
      (this.#signal('SIGKILL') && (await this.#isGoneWithin(KILLED_WAIT_MS)))
    for (const stream of [stdin, stdout, stderr]) stream.destroy()
    this.#output.end()
    const about = { server: serverId, pid: this.pid }
    if (isGone) log.info(about, 'server ended')
    else log.error(about, 'server could not be ended')
    if (isGone) onGone(this.pid)
  }

  async #isGoneWithin(ms: number): Promise<boolean> {
    const limit = new AbortController()
    const timer = setTimeout(() => limit.abort(), ms)
    try {
      await Promise.race([this.#exited, once(limit.signal, 'abort')])
      for (;;) {
        if (!this.#signal(0)) return true
        if (limit.signal.aborted) return false
        await delay(POLL_MS)
      }
    } finally {
      clearTimeout(timer)
    }
  }

  /** Answers whether there is anybody in the group. */
  #signal(signal: NodeJS.Signals | 0): boolean {
    try {
      return process.kill(-this.pid, signal)
    } catch {
      return false
    }
  }

  #line(line: Uint8Array, isCut: boolean): void {
    if (this.#isLost || this.#ending !== undefined) return
    if (isCut) {
      const { maxMessageBytes } = this.#options
      const message = `the upstream server wrote a message larger than upstream.max_message_bytes (${maxMessageBytes}) and was ended`
      this.fail(new AdapterError('ADAPTER_UPSTREAM_INVALID', message))
      return
    }
    const first = line[0]
    // Much is printed on standard output that belongs on the other one.
    if (first === OPEN_OBJECT || first === OPEN_ARRAY) this.#options.onLine(line)
    else if (line.length > 0) this.#output.noise(line)
  }

  async #hasExited(code: number | null, signal: string | null): Promise<void> {
    const { stdout } = this.#child
    if (!stdout.readableEnded && !stdout.isPaused())
      await Promise.race([once(stdout, 'end').catch(() => []), delay(LAST_WORDS_MS)])
    const how = signal === null ? `with exit code ${code}` : `by ${signal}`
    this.fail(unreachable(`the process of the upstream server ended ${how}`))
  }

  /** A process that is about to exit closes these first. */
  async #hasClosed(what: 'input' | 'output'): Promise<void> {
    await Promise.race([this.#exited, delay(LAST_WORDS_MS)])
    const { exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null)
      this.fail(unreachable(`the process of the upstream server closed its ${what}`))
  }
}

function unreachable(message: string): AdapterError {
  return new AdapterError('ADAPTER_UPSTREAM_UNREACHABLE', message)
}
