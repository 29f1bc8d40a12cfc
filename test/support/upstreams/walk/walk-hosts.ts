/** The server of the client walk on each transport: how the adapter is told of it, and how a client reaches it without the adapter. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { fileURLToPath } from 'node:url'

import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'

import { noted } from '../../secret-scan.ts'
import { headerOf, listenOnLoopback, readJsonBody, sendRpcError } from '../http-fixture.ts'
import { createWalkInstance } from './walk-instance.ts'

const STDIO_MAIN = fileURLToPath(new URL('walk-stdio-main.js', import.meta.url))

/** A server on one transport. */
export interface WalkHost {
  /** Section `upstream` of a server in the adapter's configuration. */
  readonly upstream: Readonly<Record<string, unknown>>
  /** A transport of a client that is to talk to it directly. */
  direct(): Transport
  stop(): Promise<void>
}

/** By the transport's name in the configuration. */
export const WALK_HOSTS = {
  streamable_http: startHttpHost,
  sse: startSseHost,
  stdio: startStdioHost,
} as const satisfies Readonly<Record<string, () => Promise<WalkHost>>>

async function startHttpHost(): Promise<WalkHost> {
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  const open = async (): Promise<StreamableHTTPServerTransport> => {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => noted(randomUUID()),
      onsessioninitialized: (id) => {
        sessions.set(id, transport)
      },
    })
    await createWalkInstance().connect(transport)
    return transport
  }
  const fixture = await listen(async (request, response) => {
    const body = request.method === 'POST' ? await readJsonBody(request) : undefined
    const known = sessions.get(headerOf(request, 'mcp-session-id') ?? '')
    const transport = known ?? (isInitializeRequest(body) ? await open() : undefined)
    if (transport === undefined)
      sendRpcError(response, 404, { code: -32001, message: 'Session not found' })
    else await transport.handleRequest(request, response, body)
  })
  const url = `http://127.0.0.1:${fixture.port}/mcp`
  return {
    upstream: { url },
    direct: () => new StreamableHTTPClientTransport(new URL(url)),
    stop: () => fixture.close(),
  }
}

async function startSseHost(): Promise<WalkHost> {
  const sessions = new Map<string, SSEServerTransport>()
  const fixture = await listen(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://127.0.0.1')
    if (request.method === 'GET' && pathname === '/sse') {
      const transport = new SSEServerTransport('/messages', response)
      noted(transport.sessionId)
      sessions.set(transport.sessionId, transport)
      response.once('close', () => sessions.delete(transport.sessionId))
      await createWalkInstance().connect(transport)
      return
    }
    const known = sessions.get(searchParams.get('sessionId') ?? '')
    if (known === undefined) response.writeHead(404).end()
    else await known.handlePostMessage(request, response)
  })
  const url = `http://127.0.0.1:${fixture.port}/sse`
  return {
    upstream: { transport: 'sse', url },
    direct: () => new SSEClientTransport(new URL(url)),
    stop: () => fixture.close(),
  }
}

function startStdioHost(): Promise<WalkHost> {
  const program = { command: process.execPath, args: [STDIO_MAIN] }
  return Promise.resolve({
    upstream: { transport: 'stdio', ...program },
    direct: () => new StdioClientTransport(program),
    stop: () => Promise.resolve(),
  })
}

function listen(handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
  return listenOnLoopback((request, response) => {
    handle(request, response).catch(() => response.destroy())
  })
}
