/** An adapter as a process of its own in front of a file server, and clients of it that speak plain HTTP. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { startReplica, type Replica } from './replica.ts'
import { noteAnswer } from './secret-scan.ts'
import { fileServerSection, startFileServer, type FileServer } from './upstreams/file-server.ts'

/** Headers that a well-behaved MCP client sends with a POST. */
export const MCP_HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
} as const

/** The body that starts a session. */
export const INITIALIZE = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: {
    protocolVersion: '2025-06-18',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  },
})

/** An answer to a POST, with the JSON-RPC message that it carried, in JSON or as the last event of a stream. */
export interface McpAnswer {
  readonly status: number
  readonly message: Readonly<Record<string, unknown>>
  readonly text: string
}

/** The upload answer of the adapter, or its error. */
export interface UploadAnswer {
  readonly status: number
  readonly json: Readonly<Record<string, unknown>>
}

/** See the file comment. Server id `files`, mounted at `/mcp/files`. */
export class FileRig {
  readonly upstream: FileServer
  readonly workspace: string
  #replica: Replica
  #nextId = 100

  private constructor(upstream: FileServer, workspace: string, replica: Replica) {
    this.upstream = upstream
    this.workspace = workspace
    this.#replica = replica
  }

  /** `sections` are added to the configuration; `core` and `server` are merged in, `moreServers` follow the file server. */
  static async start(
    sections: {
      readonly core?: object
      readonly server?: object
      readonly moreServers?: readonly object[]
      readonly [section: string]: unknown
    } = {},
    directory?: string,
  ): Promise<FileRig> {
    const workspace = await mkdtemp(join(tmpdir(), 'adapter-rig-'))
    const upstream = await startFileServer({ workspace })
    const options = {
      config: rigConfig(upstream.url, workspace, sections),
      ...(directory === undefined ? {} : { directory }),
    }
    return new FileRig(upstream, workspace, await startReplica(options))
  }

  get replica(): Replica {
    return this.#replica
  }

  get url(): string {
    return this.#replica.url
  }

  get port(): number {
    return this.#replica.port
  }

  /** Ends everything; resolves with the adapter's exit code. */
  async stop(): Promise<number | null> {
    const code = await this.#replica.stop()
    await this.upstream.stop()
    await rm(this.workspace, { recursive: true, force: true })
    return code
  }

  /** Starts the adapter again on its directory, after `replica.kill()`. */
  async restart(sections: Parameters<typeof FileRig.start>[0], directory: string): Promise<void> {
    const config = rigConfig(this.upstream.url, this.workspace, sections ?? {})
    this.#replica = await startReplica({ config, directory })
  }

  /** POSTs a message. `sessionId` undefined: none is sent. */
  async post(
    message: object | string,
    sessionId?: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<McpAnswer & { readonly headers: Headers }> {
    const response = await fetch(`${this.url}/mcp/files`, {
      method: 'POST',
      headers: {
        ...MCP_HEADERS,
        ...(sessionId === undefined ? {} : { 'mcp-session-id': sessionId }),
        ...headers,
      },
      body: typeof message === 'string' ? message : JSON.stringify(message),
    })
    const text = await response.text()
    noteAnswer(text, response.headers.get('mcp-session-id'))
    return { status: response.status, text, message: messageIn(text), headers: response.headers }
  }

  /** Starts a session; answers its id. */
  async openSession(headers: Readonly<Record<string, string>> = {}): Promise<string> {
    const answer = await this.post(INITIALIZE, undefined, headers)
    const id = answer.headers.get('mcp-session-id')
    if (answer.status !== 200 || id === null) throw new Error(`no session: ${answer.text}`)
    await this.post({ jsonrpc: '2.0', method: 'notifications/initialized' }, id, headers)
    return id
  }

  /** Calls a tool. */
  call(
    sessionId: string,
    name: string,
    args: object = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<McpAnswer> {
    const params = { name, arguments: args }
    const id = this.#nextId++
    return this.post({ jsonrpc: '2.0', id, method: 'tools/call', params }, sessionId, headers)
  }

  /** Whether a session that is well-behaved gets its call answered. */
  async serves(sessionId: string): Promise<boolean> {
    const answer = await this.call(sessionId, 'echo', { text: 'still here' })
    return answer.status === 200 && answer.text.includes('still here')
  }

  /** A fresh upload URL. */
  async uploadUrl(sessionId: string): Promise<string> {
    const answer = await this.call(sessionId, 'files_get_upload_url')
    const url = /"upload_url":"([^"]+)"/.exec(answer.text)?.[1]
    if (url === undefined) throw new Error(`no upload URL: ${answer.text}`)
    return url
  }

  /** Uploads one file by PUT. */
  async put(url: string, body: Uint8Array | string): Promise<UploadAnswer> {
    return uploadAnswer(await fetch(url, { method: 'PUT', body }))
  }

  /** Uploads a file into a session; answers its handle. */
  async upload(sessionId: string, body: Uint8Array | string): Promise<string> {
    const answer = await this.put(await this.uploadUrl(sessionId), body)
    const handle = answer.json['upload_handle']
    if (typeof handle !== 'string') throw new Error(`not uploaded: ${JSON.stringify(answer)}`)
    return handle
  }

  /** What `/healthz` says of stored bytes and records. */
  async inventory(): Promise<Readonly<Record<string, number>>> {
    const response = await fetch(`${this.url}/healthz`)
    // The shape is the one that this test suite checks.
    const report = (await response.json()) as {
      persistence: { state_inventory: Record<string, number> }
    }
    return report.persistence.state_inventory
  }
}

/** Reads an answer of the upload endpoint. */
export async function uploadAnswer(response: Response): Promise<UploadAnswer> {
  // The endpoint answers with a JSON object.
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

function messageIn(text: string): Readonly<Record<string, unknown>> {
  const data = text.split('\n').findLast((line) => line.startsWith('data: '))
  const json = data === undefined ? text : data.slice('data: '.length)
  try {
    // JSON-RPC messages are objects.
    return JSON.parse(json) as Record<string, unknown>
  } catch {
    return {}
  }
}

function rigConfig(
  upstreamUrl: string,
  workspace: string,
  {
    core = {},
    server = {},
    moreServers = [],
    ...sections
  }: NonNullable<Parameters<typeof FileRig.start>[0]>,
): Record<string, unknown> {
  return {
    core: { allow_artifacts_download: true, ...core },
    ...sections,
    servers: [{ ...fileServerSection(upstreamUrl, workspace), ...server }, ...moreServers],
  }
}
