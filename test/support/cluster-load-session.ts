/** One session of a client that calls, uploads and downloads in plain HTTP over connections that are kept open. */
import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'

import { INITIALIZE, MCP_HEADERS } from './file-rig.ts'

/** Something crashed or stopped: the connection broke, none could be had, or the answer has a 5xx or says that a file was not kept. Whether the request was carried out is not known. */
export class InterruptedError extends Error {}

/** What the adapter says of an artifact. */
export interface ArtifactLink {
  readonly artifact_uri: string
  readonly download_url: string
}

/** A request that takes longer failed, in milliseconds. */
const LIMIT_MS = 20_000

const SLOW_STEPS = 12

/** What a tool's result says when the tool made a file that could not be recorded: it is not acknowledged then. */
const NOT_KEPT = 'its file could not be kept'

const agent = new Agent({ keepAlive: true })

/** See the file comment. Methods throw an `InterruptedError`, or an error that says what was wrong with the answer. */
export class LoadSession {
  readonly id: string
  readonly #url: string
  #nextId = 1

  private constructor(url: string, id: string) {
    this.#url = url
    this.id = id
  }

  static async open(url: string): Promise<LoadSession> {
    const { status, headers, body } = await ask(url, {
      method: 'POST',
      headers: MCP_HEADERS,
      body: INITIALIZE,
    })
    const id = headers.get('mcp-session-id')
    if (status !== 200 || id === null)
      throw new Error(`initialize was answered ${status} ${body.toString()}`)
    const session = new LoadSession(url, id)
    await session.#post({ jsonrpc: '2.0', method: 'notifications/initialized' }, 202)
    return session
  }

  /** Calls a tool; throws when the result is an error. */
  async call(
    name: string,
    args: Readonly<Record<string, unknown>> = {},
  ): Promise<Readonly<Record<string, unknown>>> {
    return this.#request('tools/call', { name, arguments: args })
  }

  /** Uploads a file; answers its handle. */
  async upload(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
    const url = await this.#uploadUrl()
    return handleIn(await ask(url, { method: 'PUT', body: bytes }))
  }

  /** The same with the body spread over `ms`. */
  async uploadSlowly(bytes: Uint8Array, ms: number): Promise<string> {
    const url = await this.#uploadUrl()
    return handleIn(await putSlowly(url, bytes, ms))
  }

  /** The digest of an upload, as a tool sees it. */
  async digestOf(handle: string): Promise<string> {
    const result = await this.call('read_file', { path: handle })
    return /"sha256":"([0-9a-f]{64})"/.exec(textOf(result))?.[1] ?? ''
  }

  /** Has a tool write a file. */
  async makeReport(content: string): Promise<ArtifactLink> {
    const result = await this.call('write_report', { filename: 'report.txt', content })
    // What the adapter documents for `_meta.artifact`.
    const meta = result['_meta'] as { artifact?: ArtifactLink } | undefined
    if (meta?.artifact === undefined) throw new Error(`no artifact in ${JSON.stringify(result)}`)
    return meta.artifact
  }

  /** The bytes of an artifact, as a resource. */
  async read(uri: string): Promise<Uint8Array> {
    const { contents } = await this.#request('resources/read', { uri })
    const [content] = contents as { text?: string; blob?: string }[] // as the specification has it
    return Buffer.from(
      content?.text ?? content?.blob ?? '',
      content?.text === undefined ? 'base64' : 'utf8',
    )
  }

  async download(url: string): Promise<Buffer> {
    const { status, body } = await ask(url, { method: 'GET' })
    if (status !== 200) throw new Error(`a download was answered ${status} ${body.toString()}`)
    return body
  }

  /** The same, read for `ms`; answers the number of bytes. */
  async downloadSlowly(url: string, ms: number): Promise<number> {
    return interruptible(`slow GET ${url}`, async () => {
      const response = await fetch(url, { signal: AbortSignal.timeout(LIMIT_MS) })
      if (response.status !== 200 || response.body === null)
        throw new Error(`a slow download was answered ${response.status} ${await response.text()}`)
      let bytes = 0
      const pieceBytes = Number(response.headers.get('content-length')) / SLOW_STEPS
      let next = pieceBytes
      for await (const piece of response.body) {
        bytes += (piece as Uint8Array).byteLength
        if (bytes < next) continue
        next += pieceBytes
        await delay(ms / SLOW_STEPS)
      }
      return bytes
    })
  }

  async #uploadUrl(): Promise<string> {
    const result = await this.call('files_get_upload_url')
    const url = /"upload_url":"([^"]+)"/.exec(JSON.stringify(result))?.[1]
    if (url === undefined) throw new Error(`no upload URL in ${JSON.stringify(result)}`)
    return url
  }

  async #request(
    method: string,
    params: Readonly<Record<string, unknown>>,
  ): Promise<Readonly<Record<string, unknown>>> {
    const text = await this.#post({ jsonrpc: '2.0', id: this.#nextId++, method, params }, 200)
    const data = text.split('\n').findLast((line) => line.startsWith('data: '))
    const answer = JSON.parse(data?.slice('data: '.length) ?? text) as {
      result?: Readonly<Record<string, unknown>>
    } // a JSON-RPC answer
    if (text.includes(NOT_KEPT)) throw new InterruptedError(text)
    if (answer.result === undefined || answer.result['isError'] === true)
      throw new Error(`${method} ${JSON.stringify(params).slice(0, 100)} was answered ${text}`)
    return answer.result
  }

  async #post(message: object, expectedStatus: number): Promise<string> {
    const { status, body } = await ask(this.#url, {
      method: 'POST',
      headers: { ...MCP_HEADERS, 'mcp-session-id': this.id },
      body: JSON.stringify(message),
    })
    const text = body.toString()
    if (status === expectedStatus) return text
    throw new Error(`${JSON.stringify(message).slice(0, 100)} was answered ${status} ${text}`)
  }
}

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer
}

function ask(url: string, init: RequestInit): Promise<Answer> {
  return interruptible(`${init.method} ${url}`, async () => {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(LIMIT_MS) })
    const body = Buffer.from(await response.arrayBuffer())
    if (response.status >= 500)
      throw new InterruptedError(
        `${init.method} ${url} was answered ${response.status} ${body.toString()}`,
      )
    return { status: response.status, headers: response.headers, body }
  })
}

/** Tells broken connections from other failures. */
async function interruptible<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    // What `fetch` throws when there is no connection, or none any more.
    if (error instanceof TypeError)
      throw new InterruptedError(
        `${new Date().toISOString()} ${what}: ${error.message}: ${inspect(error.cause, { breakLength: Infinity, compact: true })}`,
      )
    throw error
  }
}

function putSlowly(url: string, bytes: Uint8Array, ms: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(new InterruptedError(`slow PUT ${url}: ${error.message}`))
    const headers = { 'content-length': bytes.byteLength }
    const outgoing = httpRequest(url, { method: 'PUT', agent, headers }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', fail)
      incoming.on('end', () => {
        const [status = 0, body] = [incoming.statusCode, Buffer.concat(parts)]
        if (status >= 500) fail(new Error(`was answered ${status} ${body.toString()}`))
        else resolve({ status, headers: new Headers(), body })
      })
    })
    outgoing.on('error', fail)
    const send = async (): Promise<void> => {
      const size = Math.ceil(bytes.byteLength / SLOW_STEPS)
      for (let from = 0; from < bytes.byteLength; from += size) {
        outgoing.write(bytes.subarray(from, from + size))
        await delay(ms / SLOW_STEPS)
      }
      outgoing.end()
    }
    void send()
  })
}

function handleIn({ status, body }: Answer): string {
  const text = body.toString()
  const handle = /"upload_handle":"([^"]+)"/.exec(text)?.[1]
  if (status !== 200 || handle === undefined)
    throw new Error(`an upload was answered ${status} ${text}`)
  return handle
}

function textOf(result: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(result).replaceAll('\\"', '"')
}
