// An upstream as most of them are today: the v1 SDK, Streamable HTTP with sessions, tools that read and write files.
// It records the tool calls and the headers that arrive, so that tests see what an adapter really sent.

import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { isInitializeRequest, type JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { noted } from '../secret-scan.ts'
import { EventLog } from './event-log.ts'
import { createFileInstance } from './files/file-instance.ts'
import { headerOf, listenOnLoopback, readJsonBody, sendRpcError } from './http-fixture.ts'

/** How the file server behaves. */
export interface FileServerOptions {
  /** Directory of the tools that choose a place for their files themselves. */
  readonly workspace: string
  /** Answers in `application/json` in place of event streams; default false. */
  readonly jsonResponse?: boolean
  /** Serves each request by itself, without sessions; default false. */
  readonly stateless?: boolean
  /** Has resources; default true. */
  readonly resources?: boolean
}

/** A `tools/call` that was served, as it arrived. */
export interface RecordedCall {
  readonly tool: string
  readonly arguments: Readonly<Record<string, unknown>>
  readonly sessionId: string | undefined
  readonly headers: IncomingHttpHeaders
}

/** A running file server. */
export interface FileServer {
  /** The MCP endpoint, `http://127.0.0.1:<port>/mcp`. */
  readonly url: string
  /** Every tool call that was served, in order of arrival; those refused for their session aren't among them. */
  readonly calls: readonly RecordedCall[]
  /** How many sessions are open. */
  sessions(): number
  /** Forgets all sessions, so that the next request of each of them is answered 404. */
  dropSessions(): Promise<void>
  stop(): Promise<void>
}

const callSchema = z.object({
  method: z.literal('tools/call'),
  params: z.object({ name: z.string(), arguments: z.record(z.string(), z.unknown()).default({}) }),
})

/** Starts the server on a free port of 127.0.0.1. */
export async function startFileServer(options: FileServerOptions): Promise<FileServer> {
  const calls: RecordedCall[] = []
  const transports = new Map<string, StreamableHTTPServerTransport>()

  const open = async (): Promise<StreamableHTTPServerTransport> => {
    const transport = new StreamableHTTPServerTransport({
      enableJsonResponse: options.jsonResponse ?? false,
      ...(options.stateless !== true && {
        sessionIdGenerator: () => noted(randomUUID()),
        eventStore: new EventLog<JSONRPCMessage>(),
        onsessioninitialized: (id: string) => void transports.set(id, transport),
        onsessionclosed: (id: string) => void transports.delete(id),
      }),
    })
    const server = createFileInstance({
      workspace: options.workspace,
      hasResources: options.resources ?? true,
    })
    await server.connect(transport)
    return transport
  }

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = request.method === 'POST' ? await readJsonBody(request) : undefined
    if (options.stateless === true) {
      record(calls, request, body)
      return serveOnce(await open(), request, response, body)
    }
    const id = headerOf(request, 'mcp-session-id')
    const transport = id === undefined ? undefined : transports.get(id)
    if (transport) {
      record(calls, request, body)
      return transport.handleRequest(request, response, body)
    }
    if (id !== undefined)
      return sendRpcError(response, 404, { code: -32001, message: 'Session not found' })
    if (!isInitializeRequest(body)) {
      return sendRpcError(response, 400, {
        code: -32000,
        message: 'Bad Request: No valid session ID provided',
      })
    }
    return (await open()).handleRequest(request, response, body)
  }

  const dropSessions = async (): Promise<void> => {
    const dropped = [...transports.values()]
    transports.clear()
    await Promise.all(dropped.map((transport) => transport.close()))
  }

  const fixture = await listenOnLoopback((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy()
      else sendRpcError(response, 500, { code: -32603, message: String(error) })
    })
  })

  return {
    url: `http://127.0.0.1:${fixture.port}/mcp`,
    calls,
    sessions: () => transports.size,
    dropSessions,
    async stop() {
      await dropSessions()
      await fixture.close()
    },
  }
}

/** A stateless transport serves one request and is closed with its response. */
async function serveOnce(
  transport: StreamableHTTPServerTransport,
  request: IncomingMessage,
  response: ServerResponse,
  body: unknown,
): Promise<void> {
  response.once('close', () => void transport.close())
  await transport.handleRequest(request, response, body)
}

function record(calls: RecordedCall[], request: IncomingMessage, body: unknown): void {
  const call = callSchema.safeParse(body)
  if (!call.success) return
  const { name: tool, arguments: args } = call.data.params
  const sessionId = headerOf(request, 'mcp-session-id')
  calls.push({ tool, arguments: args, sessionId, headers: request.headers })
}

/** A server section of the adapter's configuration for it, with id `files`, mounted at `/mcp/files`. */
export function fileServerSection(
  url: string,
  workspace: string,
): Readonly<Record<string, unknown>> {
  return {
    id: 'files',
    mount_path: '/mcp/files',
    upstream: { url, workspace_root: workspace },
    adapters: [
      { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
      {
        type: 'artifact_producer',
        tools: ['write_report', 'symlink_output'],
        output_path_argument: 'filename',
        output_locator: { mode: 'regex' },
      },
    ],
  }
}
