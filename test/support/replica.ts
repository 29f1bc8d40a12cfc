/** Runs the adapter as users do: as a process of its own, with a configuration file, on a free port. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { stringify } from 'yaml'

import { within } from './eventually.ts'
import { noteConfig, noteSecrets, noteSigningSecret, watchOutput } from './secret-scan.ts'

/** A running adapter. */
export interface Replica {
  /** Origin, for example `http://127.0.0.1:40123`. */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Its storage root. */
  readonly root: string
  /** What it wrote on both outputs so far. */
  logs(): string
  /** Resolves with the exit code when it has ended, whoever ended it. */
  readonly ended: Promise<number | null>
  /** SIGTERM; resolves with the exit code. Removes the working directory when it was ours. */
  stop(): Promise<number | null>
  /** SIGKILL; resolves when it is gone. Keeps the working directory, to start again from. */
  kill(): Promise<void>
}

/** Configuration as in the file; `storage.root` and the host are filled in when absent. */
export interface ReplicaOptions {
  readonly config: { readonly [section: string]: unknown }
  /** A directory to use (and keep) instead of a temporary one. */
  readonly directory?: string
  readonly port?: number
  readonly env?: Readonly<Record<string, string>>
}

const SECRET_VARIABLE = /TOKEN|SECRET|PASSWORD|KEY/

const MAIN = fileURLToPath(new URL('../../src/primary/main.js', import.meta.url))

/** Starts an adapter; resolves when it listens, rejects with its output when it does not. */
export async function startReplica(options: ReplicaOptions): Promise<Replica> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'adapter-test-')))
  const root = join(directory, 'data')
  const { core, storage, ...rest } = options.config
  const config = {
    core: { host: '127.0.0.1', log_level: 'info', ...asObject(core) },
    storage: { root, ...asObject(storage) },
    ...rest,
  }
  const file = join(directory, 'config.yaml')
  await writeFile(file, stringify(config))
  const child = spawn(
    process.execPath,
    [MAIN, 'serve', '--config', file, '--port', String(options.port ?? 0)],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } },
  )
  let output = ''
  watchOutput('an adapter', () => output)
  noteConfig(config)
  noteSecrets(
    Object.entries(options.env ?? {}).flatMap(([name, value]) =>
      SECRET_VARIABLE.test(name) ? [value] : [],
    ),
  )
  const exited = new Promise<number | null>((resolve) =>
    child.once('exit', (code) => resolve(code)),
  )
  const listening = new Promise<number>((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      output += chunk.toString('utf8')
      const port = /^remote-mcp-adapter listening on .*:(\d+)$/m.exec(output)?.[1]
      if (port !== undefined) resolve(Number(port))
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    void exited.then((code) => reject(new Error(`the adapter ended with ${code}:\n${output}`)))
  })
  const port = await within('the adapter listens', listening, 60_000).catch((error: unknown) => {
    child.kill('SIGKILL')
    throw error
  })
  noteSigningSecret(config.storage.root)
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    pid: child.pid ?? -1,
    root,
    logs: () => output,
    ended: exited,
    stop: async () => {
      child.kill('SIGTERM')
      const code = await within('the adapter stops', exited, 30_000).catch((error: unknown) => {
        child.kill('SIGKILL')
        throw new Error(`${String(error)}\n${output}`)
      })
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true })
      return code
    },
    kill: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}

function asObject(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {}
}
