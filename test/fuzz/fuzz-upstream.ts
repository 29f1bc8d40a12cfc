/** The upstream of the fuzzed adapter: a small server with sessions and file tools, and, where a request asks for it, a hostile one. */
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

import { hostileAnswer } from './hostile-answer.ts'

/** A running upstream. */
export interface FuzzUpstream {
  readonly port: number
  /** Paths that a tool was told to write at though they are in no session's directory. */
  readonly strayPaths: readonly string[]
  stop(): Promise<void>
}

interface Message {
  readonly id?: unknown
  readonly method?: unknown
  readonly params?: {
    readonly name?: unknown
    readonly fuzz?: unknown
    readonly arguments?: Readonly<Record<string, unknown>>
  }
}

const TOOLS = [
  { name: 'echo', inputSchema: { type: 'object' } },
  {
    name: 'read_file',
    inputSchema: { type: 'object', properties: { path: { type: 'string' } } },
  },
  {
    name: 'write_report',
    inputSchema: {
      type: 'object',
      properties: { filename: { type: 'string' }, content: { type: 'string' } },
    },
  },
]

/** `isOurs` tells the paths that tools may be given. A hostile one answers as a number in the request's parameters or arguments says. */
export async function startFuzzUpstream(options: {
  readonly isHostile: boolean
  readonly isOurs: (path: string) => boolean
  readonly canaryPath: string
}): Promise<FuzzUpstream> {
  const strayPaths: string[] = []
  const sessions = new Set<string>()
  let minted = 0

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer) // bodies are read as bytes
    const message = parse(Buffer.concat(parts).toString('utf8'))
    const { id, method, params } = message
    const sessionId = request.headers['mcp-session-id']
    const output = params?.arguments?.['filename']
    const isWrite = method === 'tools/call' && params?.name === 'write_report'
    if (isWrite && typeof output === 'string' && !options.isOurs(output)) strayPaths.push(output)
    const fuzz = params?.fuzz ?? params?.arguments?.['fuzz']
    if (typeof fuzz === 'number' && options.isHostile) {
      const outputPath = typeof output === 'string' && options.isOurs(output) ? output : undefined
      await answerHostile(response, fuzz, { id, canaryPath: options.canaryPath, outputPath })
    } else if (request.method === 'DELETE') {
      sessions.delete(String(sessionId))
      response.writeHead(200).end()
    } else if (sessionId !== undefined && !sessions.has(String(sessionId))) {
      sendJson(response, 404, {
        jsonrpc: '2.0',
        id: null,
        error: { code: -32001, message: 'gone' },
      })
    } else if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(
        'id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n',
      )
      setTimeout(() => response.end(), 3_000).unref()
    } else if (method === 'initialize') {
      const fresh = `up-${++minted}`
      sessions.add(fresh)
      const result = {
        protocolVersion: '2025-06-18',
        capabilities: { tools: {}, resources: {} },
        serverInfo: { name: 'fuzz', version: '1' },
      }
      sendJson(response, 200, { jsonrpc: '2.0', id, result }, { 'mcp-session-id': fresh })
    } else if (Array.isArray(message)) {
      // As servers of a revision without batches do.
      const error = { code: -32600, message: 'no batches' }
      sendJson(response, 400, { jsonrpc: '2.0', id: null, error })
    } else if (id === undefined || method === undefined) response.writeHead(202).end()
    else
      sendJson(response, 200, {
        jsonrpc: '2.0',
        id,
        result: await resultOf(message, options.isOurs),
      })
  }

  const server = createServer((request, response) => {
    serve(request, response).catch(() => response.destroy())
  })
  // Malformed requests are what this must never be sent; the fuzzer hears of them as answers 400.
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')
  return {
    port: address.port,
    strayPaths,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answerHostile(
  response: ServerResponse,
  fuzz: number,
  context: Parameters<typeof hostileAnswer>[1],
): Promise<void> {
  const { socket } = response
  if (socket === null) return
  if (context.outputPath !== undefined && fuzz % 2 === 0)
    await writeFile(context.outputPath, 'hostile').catch(() => {})
  const answer = hostileAnswer(fuzz, context)
  for (const piece of answer.pieces) {
    socket.write(piece)
    if (answer.pieces.length > 1) await delay(1)
  }
  if (answer.ending === 'reset') socket.resetAndDestroy()
  else if (answer.ending === 'close') socket.end()
  else if (answer.ending === 'keep') setTimeout(() => socket.destroy(), 300).unref()
  else setTimeout(() => socket.destroy(), 10_000).unref()
}

async function resultOf(message: Message, isOurs: (path: string) => boolean): Promise<unknown> {
  const { method, params } = message
  if (method === 'tools/list') return { tools: TOOLS }
  if (method !== 'tools/call') return {}
  const { path, filename, content } = params?.arguments ?? {}
  if (params?.name === 'read_file' && typeof path === 'string' && isOurs(path)) {
    const bytes = await readFile(path).catch(() => Buffer.from('unreadable'))
    return { content: [{ type: 'text', text: bytes.toString('latin1') }] }
  }
  if (params?.name === 'write_report' && typeof filename === 'string' && isOurs(filename)) {
    if (isOurs(filename)) await writeFile(filename, String(content)).catch(() => {})
    return { content: [{ type: 'text', text: `Saved to ${filename}` }] }
  }
  return { content: [{ type: 'text', text: JSON.stringify(params?.arguments ?? {}) }] }
}

function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(value))
}

function parse(text: string): Message {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}
