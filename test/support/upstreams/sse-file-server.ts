// An upstream of the HTTP+SSE transport (2024-11-05) as there are many: the v1 SDK, one stream a session, the tools of the file server.

import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import type { IncomingHttpHeaders } from 'node:http'

import { createFileInstance } from './files/file-instance.ts'
import { listenOnLoopback } from './http-fixture.ts'
import { registerInteractiveTools } from './interactive-tools.ts'
import type { Waits } from './interactive-tools.ts'

/** A running server. */
export interface SseFileServer {
  /** Where its streams are, `http://127.0.0.1:<port>/sse`. */
  readonly url: string
  readonly port: number
  /** What became of the calls of `wait`. */
  readonly waits: Waits
  /** Headers of what was POSTed. */
  readonly posted: readonly IncomingHttpHeaders[]
  /** How many streams are open. */
  sessions(): number
  /** Ends all streams; the server goes on. */
  dropStreams(): Promise<void>
  /** Cuts every connection. */
  stop(): Promise<void>
}

/** Starts the server on 127.0.0.1; port 0 (the default) picks a free one. */
export async function startSseFileServer(options: {
  workspace: string
  port?: number
}): Promise<SseFileServer> {
  const transports = new Map<string, SSEServerTransport>()
  const waits: Waits = []
  const posted: IncomingHttpHeaders[] = []
  const fixture = await listenOnLoopback((request, response) => {
    const url = new URL(request.url ?? '/', 'http://127.0.0.1')
    if (request.method === 'GET' && url.pathname === '/sse') {
      const transport = new SSEServerTransport('/messages', response)
      transports.set(transport.sessionId, transport)
      response.on('close', () => transports.delete(transport.sessionId))
      const server = createFileInstance({ workspace: options.workspace, hasResources: true })
      registerInteractiveTools(server, waits)
      void server.connect(transport)
      return
    }
    const transport = transports.get(url.searchParams.get('sessionId') ?? '')
    posted.push(request.headers)
    if (request.method === 'POST' && transport !== undefined)
      void transport.handlePostMessage(request, response)
    else response.writeHead(404).end('no such session')
  }, options.port)
  return {
    url: `http://127.0.0.1:${fixture.port}/sse`,
    port: fixture.port,
    waits,
    posted,
    sessions: () => transports.size,
    dropStreams: async () => {
      await Promise.all([...transports.values()].map((transport) => transport.close()))
    },
    stop: () => fixture.close(),
  }
}
