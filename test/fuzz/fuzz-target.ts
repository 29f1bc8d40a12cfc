/** What is fuzzed: an adapter as a process, with a token, signed URLs and files, before the fuzzer's upstream; and what must be true of it at any time. */
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative, sep } from 'node:path'

import { eventually } from '../support/eventually.ts'
import { startReplica, type Replica } from '../support/replica.ts'
import { startFuzzUpstream, type FuzzUpstream } from './fuzz-upstream.ts'

/** Secrets that neither an answer nor a log may hold. */
export const TOKEN = 'fuzz-token-5b1f5d9ae2aa3b9c'
const SIGNING_SECRET = 'fuzz-signing-secret-d3ceb07a'
/** Content of a file outside all sessions. */
const CANARY = 'canary-of-the-host-6f0ffa55'

const SESSION_FILE =
  /^(?:files|hostile)\/[A-Za-z0-9_-]{32}\/(?:uploads|artifacts)\/[A-Za-z0-9_-]{22}\/[^/]+$/

/** See the file comment. */
export class FuzzTarget {
  /** The well-behaved one and the hostile one: apart, because connections are shared by what goes to one address. */
  readonly #upstreams: readonly FuzzUpstream[]
  readonly #directory: string
  #replica: Replica
  #logOffset = 0
  /** Secrets that came up during the run, such as session ids: they must not be in the log. */
  readonly #minted = new Set<string>()
  /** Log lines below an error, by message. */
  readonly warnings = new Map<string, number>()

  private constructor(upstreams: readonly FuzzUpstream[], directory: string, replica: Replica) {
    this.#upstreams = upstreams
    this.#directory = directory
    this.#replica = replica
  }

  static async start(): Promise<FuzzTarget> {
    const directory = await mkdtemp(join(tmpdir(), 'adapter-fuzz-'))
    const canaryPath = join(directory, 'outside', 'canary.txt')
    await mkdir(join(directory, 'outside'))
    await writeFile(canaryPath, CANARY)
    const sessionsDir = join(directory, 'data', 'sessions')
    const options = { canaryPath, isOurs: (path: string) => isBelow(path, sessionsDir) }
    const files = await startFuzzUpstream({ ...options, isHostile: false })
    const hostile = await startFuzzUpstream({ ...options, isHostile: true })
    const config = configFor({ files: files.port, hostile: hostile.port })
    const replica = await startReplica({ directory, config })
    return new FuzzTarget([files, hostile], directory, replica)
  }

  get port(): number {
    return this.#replica.port
  }

  get pid(): number {
    return this.#replica.pid
  }

  get url(): string {
    return this.#replica.url
  }

  /** Resolves when the process ends. */
  get ended(): Promise<number | null> {
    return this.#replica.ended
  }

  /** From here on this must not be in the log. */
  hide(secret: string): void {
    this.#minted.add(secret)
    const [oldest] = this.#minted
    if (this.#minted.size > 200 && oldest !== undefined) this.#minted.delete(oldest)
  }

  /** What is wrong with an answer, whatever was asked. `sent` is what the client sent, latin-1: what it said itself may come back. */
  answerProblem(answer: string, sent: string): string | undefined {
    if (answer.includes(SIGNING_SECRET)) return 'the signing secret is in an answer'
    if (answer.includes(TOKEN) && !isEcho(sent)) return 'the token is in an answer'
    if (answer.includes(CANARY)) return 'a file from outside is in an answer'
    const code = /ADAPTER_(?:INTERNAL|STORAGE_FAILED|STATE_UNAVAILABLE|STOPPING)/.exec(answer)?.[0]
    if (code !== undefined) return `answered ${code}`
    if (/node:internal|node_modules|\bat \S+ \(?\S+\.js:\d+/.test(answer))
      return 'a stack is in an answer'
    return undefined
  }

  /** What is wrong with what was logged since the last look. */
  logProblems(): string[] {
    const text = this.#replica.logs().slice(this.#logOffset)
    const end = text.lastIndexOf('\n') + 1
    this.#logOffset += end
    const problems: string[] = []
    for (const line of text.slice(0, end).split('\n')) {
      if (line === '') continue
      const secret = [TOKEN, SIGNING_SECRET, CANARY, ...this.#minted].find((one) =>
        line.includes(one),
      )
      if (secret !== undefined) problems.push(`a secret is in the log: ${line.slice(0, 500)}`)
      const level = Number(/"level":(\d+)/.exec(line)?.[1] ?? 0)
      if (level >= 50 || /uncaught|unhandled|heap out of memory/i.test(line))
        problems.push(`logged: ${line.slice(0, 700)}`)
      else if (level > 0) {
        const message = /"msg":"([^"]{0,80})/.exec(line)?.[1] ?? ''
        this.warnings.set(message, (this.warnings.get(message) ?? 0) + 1)
      }
    }
    return problems
  }

  /** Files where none belong, and sums that are not right. Nothing may be in flight. */
  async storageProblems(): Promise<string[]> {
    const problems = this.#upstreams
      .flatMap(({ strayPaths }) => strayPaths)
      .map((path) => `a tool was told to write at ${path}`)
    const outside = await readdir(join(this.#directory, 'outside'))
    if (outside.length !== 1) problems.push(`files outside: ${outside.join(', ')}`)
    const top = await readdir(join(this.#directory, 'data'))
    const strange = top.filter((name) => !['sessions', 'state'].includes(name))
    if (strange.length > 0) problems.push(`beside the sessions: ${strange.join(', ')}`)
    let last = ''
    await eventually(
      'the bytes in use are those on disk',
      async () => {
        const stored = await this.#stored()
        const counted = await this.#countedBytes()
        last = `${counted} counted, ${stored.bytes} on disk; ${stored.strange.join(', ')}`
        return stored.bytes === counted && stored.strange.length === 0
      },
      20_000,
    ).catch(() => problems.push(`storage: ${last}`))
    return problems
  }

  async stop(): Promise<number | null> {
    const code = await this.#replica.stop()
    await Promise.all(this.#upstreams.map((upstream) => upstream.stop()))
    await rm(this.#directory, { recursive: true, force: true })
    return code
  }

  async #countedBytes(): Promise<number> {
    const response = await fetch(`${this.url}/healthz`)
    // The shape is the one that the test suite checks.
    const report = (await response.json()) as {
      persistence: { state_inventory: { bytes: number; reserved_bytes: number } }
    }
    const { bytes, reserved_bytes: reserved } = report.persistence.state_inventory
    return bytes + reserved
  }

  async #stored(): Promise<{ readonly bytes: number; readonly strange: string[] }> {
    const sessions = join(this.#directory, 'data', 'sessions')
    const entries = await readdir(sessions, { recursive: true, withFileTypes: true }).catch(
      () => [],
    )
    let bytes = 0
    const strange: string[] = []
    for (const entry of entries.filter((one) => !one.isDirectory())) {
      const path = join(entry.parentPath, entry.name)
      const name = relative(sessions, path)
      if (!entry.isFile() || !SESSION_FILE.test(name)) strange.push(name)
      const { size } = await stat(path).catch(() => ({ size: 0 }))
      bytes += size
    }
    return { bytes, strange }
  }
}

/** Whether the token may come back because the client said it in another place than its header. */
function isEcho(sent: string): boolean {
  const all = sent.split(TOKEN).length - 1
  const asCredential = sent.match(new RegExp(`^X-Mcp-Adapter-Auth-Token: ${TOKEN}\\r$`, 'gim'))
  return all > (asCredential?.length ?? 0)
}

function isBelow(path: string, directory: string): boolean {
  return path.startsWith(directory + sep) && !path.includes(`${sep}..`)
}

function configFor(ports: {
  readonly files: number
  readonly hostile: number
}): Readonly<Record<string, unknown>> {
  const adapters = [
    { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
    {
      type: 'artifact_producer',
      tools: ['write_report'],
      output_path_argument: 'filename',
      output_locator: { mode: 'regex' },
    },
  ]
  // The hostile one lets calls wait; the other may be slow when the machine is busy, which is no finding.
  const server = (id: string, port: number, timeoutSeconds: number): object => ({
    id,
    tool_defaults: { tool_call_timeout_seconds: timeoutSeconds },
    mount_path: `/mcp/${id}`,
    upstream: { url: `http://127.0.0.1:${port}/mcp`, stream_linger_seconds: 1 },
    // The hostile one fails all the time, which is another matter.
    upstream_ping: { enabled: false },
    adapters,
  })
  return {
    core: {
      workers: 2,
      log_level: 'warning',
      max_message_bytes: '1Mi',
      max_response_message_bytes: '1Mi',
      allow_artifacts_download: true,
      cleanup_interval_seconds: 5,
      auth: { enabled: true, token: TOKEN, signing_secret: SIGNING_SECRET },
    },
    sessions: {
      max_active: 1_000,
      idle_ttl_seconds: 60,
      allow_revival: false,
      max_in_flight_per_session: 50,
      max_total_session_size: '256Ki',
    },
    storage: { orphan_sweeper_grace_seconds: 5 },
    uploads: { max_file_bytes: '64Ki', ttl_seconds: 60 },
    artifacts: { ttl_seconds: 60 },
    servers: [server('files', ports.files, 15), server('hostile', ports.hostile, 2)],
  }
}
