/** Clients that keep a cluster busy with calls, uploads and downloads, and note whatever goes wrong. Its server has id `files` and the tools of the file server. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'

import { InterruptedError, LoadSession } from './cluster-load-session.ts'
import type { ArtifactLink } from './cluster-load-session.ts'

/** A file that the cluster acknowledged: it must be there. */
interface Acknowledged {
  readonly session: LoadSession
  readonly kind: 'upload' | 'artifact'
  /** The handle of an upload, the URI of an artifact. */
  readonly name: string
  readonly sha256: string
}

/** Pause of a client between two rounds, in milliseconds. */
const PAUSE_MS = 25

/** More than sockets hold: such a download is under way for as long as it is read. */
const LARGE_BYTES = 12_000_000

/** See the file comment. */
export class ClusterLoad {
  /** What no client may see, in words. */
  readonly failures: string[] = []
  /** Connections that broke while a request was under way, or could not be had. */
  readonly interruptions: string[] = []
  readonly counts = { calls: 0, slowCalls: 0, uploads: 0, downloads: 0, slowTransfers: 0 }
  readonly sessions: LoadSession[] = []
  readonly #url: string
  readonly #acknowledged: Acknowledged[] = []
  readonly #large = new Map<LoadSession, ArtifactLink>()
  readonly #running: Promise<void>[] = []
  readonly #clients: Client[] = []
  #isOver = false

  /** `url`: of the cluster. */
  constructor(url: string) {
    this.#url = `${url}/mcp/files`
  }

  /** Clients in plain HTTP: each in a session of its own, in turn a caller, an uploader, a downloader, and one whose transfers are slow. */
  async addClients(count: number): Promise<void> {
    const rounds = [
      (session: LoadSession) => this.#call(session),
      (session: LoadSession) => this.#upload(session),
      (session: LoadSession) => this.#download(session),
      (session: LoadSession) => this.#transferSlowly(session),
    ]
    for (let index = 0; index < count; index++) {
      const round = rounds[index % rounds.length]
      const session = await LoadSession.open(this.#url)
      this.sessions.push(session)
      if (round !== undefined) this.#running.push(this.#repeat(() => round(session)))
    }
  }

  /** Clients of the official SDK, with their standing streams: half of them with calls that take long. */
  async addSdkClients(count: number): Promise<void> {
    for (let index = 0; index < count; index++) {
      const client = new Client({ name: `load-${index}`, version: '1' })
      const transport = new StreamableHTTPClientTransport(new URL(this.#url))
      // oxlint-disable-next-line unicorn/prefer-add-event-listener -- the SDK's client has no other way
      client.onerror = (error) => {
        if (!this.#isOver) this.failures.push(`SDK client: ${describe(error)}`)
      }
      await client.connect(transport)
      this.#clients.push(client)
      const [name, args] = index % 2 === 0 ? ['echo', { index }] : ['slow', { ms: 700 }]
      this.#running.push(
        this.#repeat(async () => {
          const result = await client.callTool({ name, arguments: args })
          if (result.isError === true) throw new Error(JSON.stringify(result))
          this.counts[name === 'echo' ? 'calls' : 'slowCalls']++
        }),
      )
    }
  }

  /** Ends all clients when they have finished what they do, and leaves their sessions. */
  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#running)
    await Promise.all(this.#clients.map((client) => client.close()))
  }

  /** Reads everything that was acknowledged; answers how many files there were, and adds those that are not as they were to the failures. */
  async verify(): Promise<number> {
    for (const { session, kind, name, sha256 } of this.#acknowledged) {
      try {
        const found =
          kind === 'upload' ? await session.digestOf(name) : sha256Of(await session.read(name))
        if (found !== sha256) this.failures.push(`${kind} ${name} is not what was acknowledged`)
      } catch (error) {
        this.failures.push(`${kind} ${name} is lost: ${String(error)}`)
      }
    }
    return this.#acknowledged.length
  }

  async #repeat(round: () => Promise<void>): Promise<void> {
    while (!this.#isOver) {
      try {
        await round()
      } catch (error) {
        if (error instanceof InterruptedError) this.interruptions.push(error.message)
        else this.failures.push(describe(error))
      }
      await delay(PAUSE_MS)
    }
  }

  async #call(session: LoadSession): Promise<void> {
    const text = randomBytes(8).toString('hex')
    const result = await session.call('echo', { text })
    if (!JSON.stringify(result).includes(text))
      throw new Error(`echo answered ${JSON.stringify(result)}`)
    this.counts.calls++
  }

  async #upload(session: LoadSession): Promise<void> {
    const bytes = randomBytes(100_000)
    const handle = await session.upload(bytes)
    await this.#acknowledge({ session, kind: 'upload', name: handle, sha256: sha256Of(bytes) })
    this.counts.uploads++
  }

  async #download(session: LoadSession): Promise<void> {
    const content = randomBytes(50_000).toString('hex')
    const artifact = await session.makeReport(content)
    await this.#acknowledge({
      session,
      kind: 'artifact',
      name: artifact.artifact_uri,
      sha256: sha256Of(content),
    })
    const downloaded = await session.download(artifact.download_url)
    if (downloaded.toString() !== content) throw new Error('a download is not what was written')
    this.counts.downloads++
  }

  async #transferSlowly(session: LoadSession): Promise<void> {
    const bytes = randomBytes(400_000)
    const handle = await session.uploadSlowly(bytes, 1_200)
    await this.#acknowledge({ session, kind: 'upload', name: handle, sha256: sha256Of(bytes) })
    const large = this.#large.get(session) ?? (await session.makeReport('x'.repeat(LARGE_BYTES)))
    this.#large.set(session, large)
    const downloaded = await session.downloadSlowly(large.download_url, 1_200)
    if (downloaded !== LARGE_BYTES)
      throw new Error(`a slow download had ${downloaded} bytes of ${LARGE_BYTES}`)
    this.counts.slowTransfers++
  }

  /** Remembers it for `verify`. */
  async #acknowledge(file: Acknowledged): Promise<void> {
    this.#acknowledged.push(file)
    if (file.kind === 'artifact') return
    const found = await file.session.digestOf(file.name)
    if (found !== file.sha256) throw new Error(`upload ${file.name} is not what was sent`)
  }
}

/** With its cause, which `fetch` keeps to itself. */
function describe(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  const when = new Date().toISOString()
  return `${when} ${String(error)}${cause === undefined ? '' : ` (${inspect(cause, { breakLength: Infinity, compact: true })})`}`
}

function sha256Of(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}
