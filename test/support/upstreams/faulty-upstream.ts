// An upstream that works until it is told to fail, in one way, at one kind of request: what the fault matrix needs of each transport.

import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** What a request is for; those of Streamable HTTP, which the adapter speaks to clients whatever the upstream speaks. */
export const OPERATIONS = ['initialize', 'tools/list', 'tools/call', 'GET', 'DELETE'] as const
export type Operation = (typeof OPERATIONS)[number]

/** The ways to fail. */
export const FAULTS = {
  refuses: 'refuses connections',
  hangs: 'accepts and says nothing',
  head: 'sends headers and then nothing',
  drips: 'sends a byte now and then',
  resets: 'resets the connection mid-body',
  garbage: 'answers what is no HTTP',
  nonsense: 'answers what is no JSON',
  'status 404': 'answers 404',
  'status 401': 'answers 401',
  'status 429': 'answers 429',
  'status 500': 'answers 500',
  restarts: 'was restarted before',
  killed: 'is killed meanwhile',
} as const
export type Fault = keyof typeof FAULTS

/** One transport's. Well-behaved at first: it has a tool `any`, which answers at once. */
export interface FaultyUpstream {
  /** The `upstream` section that leads to it. */
  readonly section: Readonly<Record<string, unknown>>
  /** From now on requests of this kind fail so. Resolves when that is so. */
  fail(operation: Operation, fault: Fault): Promise<void>
  /** Resolves when all is well again; what a restart loses stays lost. */
  heal(): Promise<void>
  /** Requests of this kind that arrived since the last `fail`. */
  arrived(operation: Operation): number
  /** What of it still serves a request of the present fault: connections that are in use, or processes. */
  busy(): number
  stop(): Promise<void>
}

const DRIP_MS = 100

/** Over Streamable HTTP. */
export async function startFaultyHttp(): Promise<FaultyUpstream> {
  const sockets = new Set<Socket>()
  const busy = new Set<ServerResponse>()
  const sessions = new Set<string>()
  const arrived: Operation[] = []
  let failing: { readonly operation: Operation; readonly fault: Fault } | undefined
  let minted = 0
  let port = 0
  let server: Server | undefined

  const listen = async (): Promise<void> => {
    const opened = createServer((request, response) => take(request, response))
    opened.on('connection', (socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    })
    await new Promise<void>((resolve, reject) => {
      opened.once('error', reject)
      opened.listen(port, '127.0.0.1', resolve)
    })
    const address = opened.address()
    if (address === null || typeof address === 'string')
      throw new Error('a TCP listener has a port')
    port = address.port
    server = opened
  }
  const die = (): Promise<void> => {
    const dead = server
    server = undefined
    sessions.clear()
    return new Promise((resolve) => {
      if (dead === undefined) resolve()
      else dead.close(() => resolve())
      for (const socket of sockets) socket.resetAndDestroy()
    })
  }
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    busy.add(response)
    response.on('close', () => busy.delete(response))
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const text = Buffer.concat(parts).toString('utf8')
      const message = (text === '' ? {} : JSON.parse(text)) as { id?: unknown; method?: string } // the adapter sends JSON
      const operation = operationOf(request.method, message.method)
      if (operation !== undefined) arrived.push(operation)
      const sessionId = request.headers['mcp-session-id']
      if (operation !== 'initialize' && !sessions.has(String(sessionId))) {
        response.writeHead(404).end()
        return
      }
      // One that was restarted is well, but knows nobody.
      const isMeant = operation === failing?.operation && failing?.fault !== 'restarts'
      if (operation !== undefined && failing !== undefined && isMeant) {
        misbehave(failing.fault, operation, message.id, response)
        if (failing.fault === 'killed') void die()
      } else behave(operation, message, request, response)
    })
  }
  const behave = (
    operation: Operation | undefined,
    { id, method }: { id?: unknown; method?: string },
    request: IncomingMessage,
    response: ServerResponse,
  ): void => {
    if (operation === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      return
    }
    if (operation === 'DELETE') sessions.delete(String(request.headers['mcp-session-id']))
    if (operation === 'DELETE' || id === undefined) {
      response.writeHead(operation === 'DELETE' ? 200 : 202).end()
      return
    }
    const head = { 'content-type': 'application/json' }
    if (operation === 'initialize') {
      const sessionId = `up-${++minted}`
      sessions.add(sessionId)
      response.writeHead(200, { ...head, 'mcp-session-id': sessionId })
    } else response.writeHead(200, head)
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: resultOf(method) }))
  }

  await listen()
  return {
    section: { url: `http://127.0.0.1:${port}/mcp` },
    fail: async (operation, fault) => {
      failing = { operation, fault }
      arrived.length = 0
      if (fault === 'refuses') await die()
      if (fault === 'restarts') {
        await die()
        await listen()
      }
    },
    heal: async () => {
      failing = undefined
      if (server === undefined) await listen()
    },
    arrived: (operation) => arrived.filter((one) => one === operation).length,
    busy: () => busy.size,
    stop: die,
  }
}

function misbehave(
  fault: Fault,
  operation: Operation,
  id: unknown,
  response: ServerResponse,
): void {
  const { socket } = response
  const isStream = operation === 'GET'
  const head = { 'content-type': isStream ? 'text/event-stream' : 'application/json' }
  const half = `${isStream ? 'data: ' : ''}{"jsonrpc":"2.0","id":${JSON.stringify(id ?? 1)},"resu`
  const words = 'the words of the upstream'
  switch (fault) {
    case 'hangs':
    case 'killed':
    case 'refuses':
    case 'restarts':
      return
    case 'head':
      response.writeHead(200, head).flushHeaders()
      return
    case 'drips': {
      response.writeHead(200, head).flushHeaders()
      const timer = setInterval(() => response.write(isStream ? ':' : ' '), DRIP_MS)
      response.on('close', () => clearInterval(timer))
      return
    }
    case 'resets':
      response.writeHead(200, head)
      // The half must be on its way before the cut.
      response.write(half, () => setTimeout(() => socket?.resetAndDestroy(), 20))
      return
    case 'garbage':
      socket?.end('hello, this is not HTTP\r\n\r\n')
      return
    case 'nonsense':
      response.writeHead(200, { 'content-type': 'application/json' }).end(words)
      return
    case 'status 404':
    case 'status 401':
    case 'status 429':
    case 'status 500':
      response.writeHead(Number(fault.slice('status '.length)), { 'content-type': 'text/plain' })
      response.end(words)
  }
}

function operationOf(verb: string | undefined, method: string | undefined): Operation | undefined {
  const name = verb === 'POST' ? method : verb
  return OPERATIONS.find((operation) => operation === name)
}

/** What a well-behaved upstream answers. */
export function resultOf(method: string | undefined): unknown {
  switch (method) {
    case 'initialize':
      return {
        protocolVersion: '2025-06-18',
        capabilities: { tools: {} },
        serverInfo: { name: 'faulty', version: '1' },
      }
    case 'tools/list':
      return { tools: [{ name: 'any', inputSchema: { type: 'object' } }] }
    case 'tools/call':
      return { content: [{ type: 'text', text: 'done' }] }
    case undefined:
    default:
      return {}
  }
}
