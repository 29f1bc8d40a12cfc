// An upstream whose answers a test writes by hand, byte by byte where it matters: what no SDK would send, or would send only by accident.
// Without a script it behaves as a small server with sessions.

import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'

/** A request that arrived, whole. */
export interface ReceivedRequest {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  /** The body as it came. */
  readonly body: string
  /** The body parsed, or undefined when it isn't JSON. */
  readonly json: unknown
  readonly response: ServerResponse
  /** Whether the other side closed the connection before the answer was complete. */
  isCut: boolean
}

/** Answers one request. */
export type Script = (request: ReceivedRequest, response: ServerResponse) => void | Promise<void>

/** A running scripted upstream. */
export interface ScriptedUpstream {
  /** The MCP endpoint, `http://127.0.0.1:<port>/mcp`. */
  readonly url: string
  readonly port: number
  /** Everything that arrived, in order, but for the adapter's own pings. */
  readonly received: ReceivedRequest[]
  /** The adapter's own pings, in order. */
  readonly pings: ReceivedRequest[]
  /** The open upstream sessions; clearing it makes their next requests a 404. */
  readonly sessions: Set<string>
  /** Scripts by `tools/call <tool>`, else by JSON-RPC method, else by `batch`, `response`, `GET` or `DELETE`; for the adapter's own pings `probe`. */
  readonly scripts: Map<string, Script>
  /** What arrived under such a name. */
  requests(name: string): ReceivedRequest[]
  /** Open connections. */
  connections(): Promise<number>
  stop(): Promise<void>
}

interface Message {
  readonly id?: unknown
  readonly method?: unknown
  readonly params?: { readonly name?: unknown }
}

/** How an upstream differs from the default. */
export interface ScriptedUpstreamOptions {
  /** Gives no session ids and asks for none; default false. */
  readonly stateless?: boolean
  /** Capabilities in the answer to `initialize`; default tools and resources. */
  readonly capabilities?: Readonly<Record<string, unknown>>
  readonly port?: number
}

/** Starts an upstream on 127.0.0.1. */
export async function startScriptedUpstream(
  options: ScriptedUpstreamOptions = {},
): Promise<ScriptedUpstream> {
  const received: ReceivedRequest[] = []
  const pings: ReceivedRequest[] = []
  const sessions = new Set<string>()
  const scripts = new Map<string, Script>()
  let minted = 0

  const byDefault: Script = (request, response) => {
    const { id, method } = asMessage(request.json)
    if (request.method === 'DELETE') {
      sessions.delete(String(request.headers['mcp-session-id']))
      response.writeHead(200).end()
    } else if (request.method === 'GET') {
      response.writeHead(405, { allow: 'POST, DELETE' }).end()
    } else if (id === undefined || method === undefined) {
      response.writeHead(202).end()
    } else if (method === 'initialize') {
      const sessionId = `up-${++minted}`
      sessions.add(sessionId)
      const { capabilities = { tools: {}, resources: {} } } = options
      const serverInfo = { name: 'scripted', version: '1' }
      sendJson(
        response,
        { jsonrpc: '2.0', id, result: { protocolVersion: '2025-06-18', capabilities, serverInfo } },
        options.stateless === true ? {} : { 'mcp-session-id': sessionId },
      )
    } else {
      sendJson(response, { jsonrpc: '2.0', id, result: { method } })
    }
  }

  const server = createServer((incoming, response) => {
    const parts: Buffer[] = []
    incoming.on('data', (part: Buffer) => parts.push(part))
    incoming.on('end', () => {
      const body = Buffer.concat(parts).toString('utf8')
      const { method = '', headers } = incoming
      const request = { method, headers, body, json: parse(body), response, isCut: false }
      response.on('close', () => {
        request.isCut = !response.writableFinished
      })
      const isPing = idOf(request) === 'adapter-ping'
      if (isPing) pings.push(request)
      else received.push(request)
      const sessionId = headers['mcp-session-id']
      const isKnown = typeof sessionId === 'string' && sessions.has(sessionId)
      const probe = isPing ? scripts.get('probe') : undefined
      if (probe !== undefined) {
        void probe(request, response)
        return
      }
      if (options.stateless !== true && sessionId !== undefined && !isKnown) {
        response.writeHead(404, { 'content-type': 'application/json' })
        response.end('{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no session"}}')
        return
      }
      const script = namesOf(request).flatMap((name) => scripts.get(name) ?? [])[0] ?? byDefault
      Promise.resolve(script(request, response)).catch((error: unknown) =>
        response.destroy(error instanceof Error ? error : undefined),
      )
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')
  return {
    url: `http://127.0.0.1:${address.port}/mcp`,
    port: address.port,
    received,
    pings,
    sessions,
    scripts,
    requests: (name) => received.filter((request) => namesOf(request).includes(name)),
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Answers with JSON. */
export function sendJson(
  response: ServerResponse,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(value))
}

/** Answers the request with a result. */
export function sendResult(request: ReceivedRequest, result: unknown): void {
  sendJson(request.response, { jsonrpc: '2.0', id: idOf(request), result })
}

/** Begins an event stream. */
export function beginStream(
  response: ServerResponse,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', ...headers })
  response.flushHeaders()
}

/** The JSON-RPC id of a request as it arrived. */
export function idOf(request: ReceivedRequest): unknown {
  return asMessage(request.json).id
}

/** One event with a message, as most servers write it. */
export function event(message: unknown, id?: string): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: message\ndata: ${JSON.stringify(message)}\n\n`
}

/** From the most to the least particular. */
function namesOf(request: ReceivedRequest): string[] {
  if (request.method !== 'POST') return [request.method]
  if (Array.isArray(request.json)) return ['batch']
  const { method, params } = asMessage(request.json)
  if (typeof method !== 'string') return ['response']
  return typeof params?.name === 'string' ? [`${method} ${params.name}`, method] : [method]
}

function asMessage(json: unknown): Message {
  return typeof json === 'object' && json !== null ? json : {}
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
