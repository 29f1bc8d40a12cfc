/** MCP over standard input and output: one process of the server for each connection. */
import type { ServerConfig } from '../../../shared/config/config.ts'
import { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'
import type { Log } from '../../../shared/log.ts'
import { RareWarnings } from '../../../shared/rare-warnings.ts'
import type { MessageConnection, MessageListener, MessageTransport } from './message-connection.ts'
import { MemoryWatch } from './process/memory-watch.ts'
import { ProcessGuard } from './process/process-guard.ts'
import { ServerProcess } from './process/server-process.ts'

/** See the file comment. What clients send in headers never reaches a process. */
export class StdioTransport implements MessageTransport {
  readonly #server: ServerConfig
  readonly #log: Log
  readonly #warnings: RareWarnings
  readonly #guard: ProcessGuard
  readonly #memory: MemoryWatch | undefined
  readonly #processes = new Set<ServerProcess>()
  /** Processes that are being started, which have no process yet. */
  #starting = 0
  #isClosed = false

  readonly #maxProcesses: number

  constructor(server: ServerConfig, log: Log) {
    this.#server = server
    this.#log = log
    // Clients that are refused try again.
    this.#warnings = new RareWarnings((message, details) => log.warn(details, message))
    this.#guard = new ProcessGuard(server.upstream.stopGraceSeconds, log)
    const { maxMemory, maxProcesses } = server.upstream
    // Of a shared process there is one, and perhaps another that is about to end.
    this.#maxProcesses = server.upstream.process === 'shared' ? Infinity : maxProcesses
    if (maxMemory !== null) this.#memory = new MemoryWatch(maxMemory)
  }

  /** How many processes there are, those included that are about to end. */
  get size(): number {
    return this.#processes.size + this.#starting
  }

  async open(
    listener: MessageListener,
    _headers: HeaderList,
    signal: AbortSignal,
  ): Promise<MessageConnection> {
    const { id } = this.#server
    const maxProcesses = this.#maxProcesses
    if (this.size >= maxProcesses) {
      this.#warnings.warn('no more processes of this server may be started', {
        server: id,
        maxProcesses,
      })
      throw new AdapterError(
        'ADAPTER_PROCESS_LIMIT',
        `all upstream.max_processes (${maxProcesses}) processes of server ${id} are in use; try again when a session has ended`,
      )
    }
    const server = await this.#start(listener)
    if (signal.aborted || this.#isClosed) {
      await server.stop()
      throw stopped()
    }
    return {
      send: async (message) => server.write(message),
      pause: () => server.pause(),
      resume: () => server.resume(),
      close: () => server.stop(),
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#processes].map((server) => server.stop()))
    await this.#guard.stop()
  }

  async #start(listener: MessageListener): Promise<ServerProcess> {
    const { upstream, id } = this.#server
    // Checked with the configuration.
    const command = upstream.command ?? ''
    this.#starting++
    try {
      const server = await ServerProcess.start({
        serverId: id,
        command,
        args: upstream.args,
        env: environmentOf(upstream),
        cwd: upstream.cwd,
        maxMessageBytes: upstream.maxMessageBytes,
        stopGraceMs: upstream.stopGraceSeconds * 1_000,
        log: this.#log,
        onLine: (line) => listener.message(line),
        onLost: (error) => listener.closed(error),
        onGone: (pid) => {
          this.#processes.delete(server)
          this.#guard.remove(pid)
          this.#memory?.remove(pid)
        },
      })
      this.#processes.add(server)
      this.#guard.add(server.pid)
      this.#memory?.add(server.pid, (bytes) => server.fail(this.#tooLarge(bytes)))
      return server
    } finally {
      this.#starting--
    }
  }

  #tooLarge(bytes: number): AdapterError {
    const { maxMemory } = this.#server.upstream
    return new AdapterError(
      'ADAPTER_UPSTREAM_UNREACHABLE',
      `the process of the upstream server used ${bytes} bytes of memory, more than upstream.max_memory (${maxMemory}), and was ended`,
    )
  }
}

/** The listed variables of the adapter's own environment, and those that the operator set. */
function environmentOf({
  inheritEnv,
  env,
}: ServerConfig['upstream']): Readonly<Record<string, string>> {
  const inherited = inheritEnv.flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return { ...Object.fromEntries(inherited), ...env }
}

function stopped(): AdapterError {
  return new AdapterError('ADAPTER_STOPPING', 'the process was not needed any more when it ran')
}
