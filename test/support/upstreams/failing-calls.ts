// Upstreams whose tool calls fail in the way that the name of the tool says, and whose `initialize` fails when the client's name is `reset`: for thousands
// of sessions at once, each failing in its own way.
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'

import { resultOf } from './faulty-upstream.ts'

/** How the call of a session fails. With some the client gives up, as nobody would answer. */
export const WAYS = [
  'fine',
  'reset',
  'garbage',
  'half',
  'stream',
  'status',
  'lost',
  'hang',
  'stream left',
  'get',
  'opening reset',
  'opening left',
] as const
export type Way = (typeof WAYS)[number]

/** A client's name that makes `initialize` slow, so that the client can be gone before its answer. */
export const SLOW = 'slow'
const SLOW_MS = 30

/** One transport's. */
export interface FailingCalls {
  /** The `upstream` section that leads to it. */
  readonly section: Readonly<Record<string, unknown>>
  /** Sessions that it has; undefined where a process is one. */
  sessions(): number | undefined
  stop(): void
}

interface Asked {
  readonly id?: unknown
  readonly method?: string
  readonly params?: {
    readonly name?: Way
    readonly clientInfo?: { readonly name?: string }
    readonly _meta?: { readonly progressToken?: unknown }
  }
}

/** Over Streamable HTTP. */
export async function startFailingHttp(): Promise<FailingCalls> {
  const open = new Set<string>()
  let minted = 0
  const json = { 'content-type': 'application/json' }
  const take = (asked: Asked, request: IncomingMessage, response: ServerResponse): void => {
    const { id, method, params } = asked
    const sessionId = String(request.headers['mcp-session-id'])
    const result = (): void => {
      const made = `up-${++minted}`
      if (method === 'initialize') open.add(made)
      response.writeHead(200, {
        ...json,
        ...(method === 'initialize' ? { 'mcp-session-id': made } : {}),
      })
      response.end(answerTo(asked))
    }
    if (method === 'initialize') {
      if (params?.clientInfo?.name === 'reset') response.socket?.resetAndDestroy()
      else if (params?.clientInfo?.name === SLOW) setTimeout(result, SLOW_MS)
      else result()
    } else if (!open.has(sessionId)) response.writeHead(404).end()
    else if (request.method === 'DELETE') {
      open.delete(sessionId)
      response.writeHead(200).end()
    } else if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    } else if (id === undefined) response.writeHead(202).end()
    else if (params?.name === 'lost' && Number(sessionId.slice('up-'.length)) % 2 === 0) {
      // The call is repeated on a new session, where it may come here again.
      open.delete(sessionId)
      response.writeHead(404).end()
    } else if (method !== 'tools/call' || params?.name === 'fine' || params?.name === 'lost')
      result()
    else failHttp(asked, response)
  }
  const { port, stop } = await listen(take)
  return {
    section: { url: `http://127.0.0.1:${port}/mcp`, stream_linger_seconds: 0 },
    sessions: () => open.size,
    stop,
  }
}

function failHttp(asked: Asked, response: ServerResponse): void {
  const { socket } = response
  const way = asked.params?.name
  if (way === 'reset') socket?.resetAndDestroy()
  else if (way === 'garbage') socket?.end('no HTTP at all\r\n\r\n')
  else if (way === 'status') response.writeHead(500).end('broken')
  else if (way === 'half') {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.write('{"half":', () => socket?.resetAndDestroy())
  } else if (way === 'stream' || way === 'stream left') {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`data: ${progressOf(asked)}\n\n`, () => {
      if (way === 'stream') socket?.resetAndDestroy()
    })
  }
}

/** Over HTTP+SSE (2024-11-05). */
export async function startFailingSse(): Promise<FailingCalls> {
  const streams = new Map<string, ServerResponse>()
  let minted = 0
  const take = (asked: Asked, request: IncomingMessage, response: ServerResponse): void => {
    const { id, method, params } = asked
    if (request.method === 'GET') {
      const made = String(++minted)
      streams.set(made, response)
      response.on('close', () => streams.delete(made))
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(`event: endpoint\ndata: /messages?session=${made}\n\n`)
      return
    }
    const stream = streams.get(request.url?.split('=')[1] ?? '')
    const isReset = method === 'initialize' && params?.clientInfo?.name === 'reset'
    if (isReset) response.socket?.resetAndDestroy()
    else if (stream === undefined) response.writeHead(404).end()
    else if (method === 'tools/call' && params?.name !== 'fine') failSse(asked, response, stream)
    else {
      response.writeHead(202).end()
      const reply = (): boolean => stream.write(`data: ${answerTo(asked)}\n\n`)
      if (params?.clientInfo?.name === SLOW) setTimeout(reply, SLOW_MS)
      else if (id !== undefined) reply()
    }
  }
  const { port, stop } = await listen(take)
  return {
    section: { transport: 'sse', url: `http://127.0.0.1:${port}/sse` },
    sessions: () => streams.size,
    stop,
  }
}

function failSse(asked: Asked, response: ServerResponse, stream: ServerResponse): void {
  const way = asked.params?.name
  if (way === 'reset') response.socket?.resetAndDestroy()
  else if (way === 'garbage') response.socket?.end('no HTTP at all\r\n\r\n')
  else if (way === 'status') response.writeHead(500).end('broken')
  else if (way === 'lost') response.writeHead(404).end()
  else {
    response.writeHead(202).end()
    if (way === 'half') stream.write('data: {"half":', () => stream.socket?.resetAndDestroy())
    else if (way === 'stream' || way === 'stream left') {
      stream.write(`data: ${progressOf(asked)}\n\n`, () => {
        if (way === 'stream') stream.socket?.resetAndDestroy()
      })
    }
  }
}

/** In sh, as there are to be many. `lost` is killed, `status` answers an error. */
const SCRIPT = `
field() { id=\${line#*"$1"}; id=\${id%%[,\\}]*}; }
say() { field '"id":'; printf '{"jsonrpc":"2.0","id":%s,%s}\\n' "$id" "$1"; }
progress() {
  field '"progressToken":'
  printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}\\n' "$id"
}
while IFS= read -r line; do
  case $line in
  *'"method":"initialize"'*)
    case $line in
    *'"name":"reset"'*) exit 1 ;;
    *'"name":"${SLOW}"'*) sleep 0.0${SLOW_MS} ;;
    esac
    say '"result":${JSON.stringify(resultOf('initialize'))}' ;;
  *'"method":"tools/call"'*)
    case $line in
    *'"name":"reset"'*) exit 1 ;;
    *'"name":"garbage"'*) echo 'no JSON at all'; exit 0 ;;
    *'"name":"half"'*) printf '{"half":'; exit 1 ;;
    *'"name":"stream"'*) progress; exit 1 ;;
    *'"name":"stream left"'*) progress ;;
    *'"name":"status"'*) say '"error":{"code":-32603,"message":"broken"}' ;;
    *'"name":"lost"'*) kill -9 $$ ;;
    *'"name":"hang"'*) ;;
    *) say '"result":${JSON.stringify(resultOf('tools/call'))}' ;;
    esac ;;
  *'"id":'*) say '"result":{}' ;;
  esac
done
`

/** Over stdio. */
export function failingStdio(): Promise<FailingCalls> {
  return Promise.resolve({
    section: {
      transport: 'stdio',
      command: '/bin/sh',
      args: ['-c', SCRIPT, 'failing'],
      max_processes: 64,
    },
    sessions: () => undefined,
    stop: () => {},
  })
}

async function listen(
  take: (asked: Asked, request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ readonly port: number; readonly stop: () => void }> {
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (part: string) => (body += part))
    // The adapter sends JSON.
    request.on('end', () => take((body === '' ? {} : JSON.parse(body)) as Asked, request, response))
    request.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port')
  const stop = (): void => {
    server.closeAllConnections()
    server.close()
  }
  return { port: address.port, stop }
}

function answerTo({ id, method }: Asked): string {
  return JSON.stringify({ jsonrpc: '2.0', id, result: resultOf(method) })
}

function progressOf({ params }: Asked): string {
  const { progressToken } = params?._meta ?? {}
  const told = { progressToken, progress: 1 }
  return JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params: told })
}
