// A dual-era upstream that has everything the conformance suite asks for: sessions for the revisions until 2025-11-25 and
// single requests for 2026-07-28, at one URL. The suite is run against it directly, and through the adapter.

import {
  localhostHostValidation,
  localhostOriginValidation,
  toNodeHandler,
  toWebRequest,
  type NodeIncomingMessageLike,
} from '@modelcontextprotocol/node'
import {
  createMcpHandler,
  isLegacyRequest,
  type McpHttpHandler,
} from '@modelcontextprotocol/server'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { EverythingContext, type Change, type SlowCall } from './everything/everything-context.ts'
import { createEverythingInstance } from './everything/everything-instance.ts'
import { SessionHost } from './everything/session-host.ts'
import { listenOnLoopback, readJsonBody, sendRpcError } from './http-fixture.ts'

/** A running everything server. */
export interface EverythingServer {
  /** The MCP endpoint, `http://127.0.0.1:<port>/mcp`. */
  readonly url: string
  readonly port: number
  /** Ids of the open sessions. */
  sessionIds(): readonly string[]
  /** Forgets all sessions, so that their next request is answered 404. */
  dropSessions(): Promise<void>
  /** Calls of `test_slow_tool` so far, and how each ended. */
  slowCalls(): readonly SlowCall[]
  /** Sends a change notification to all who listen. */
  announce(change: Change): void
  stop(): Promise<void>
}

/** Starts the server on 127.0.0.1; port 0 (the default) picks a free one. */
export async function startEverythingServer(
  options: { port?: number } = {},
): Promise<EverythingServer> {
  const context = new EverythingContext()
  const sessions = new SessionHost(context)
  const modern = createMcpHandler(() => createEverythingInstance(context), { legacy: 'reject' })
  context.onChange((change) => notifyModern(modern, change))
  const handleModern = toNodeHandler(modern)
  const isHostAllowed = localhostHostValidation()
  const isOriginAllowed = localhostOriginValidation()

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (!isHostAllowed(request, response) || !isOriginAllowed(request, response)) return
    if (new URL(request.url ?? '/', 'http://127.0.0.1').pathname !== '/mcp') {
      response.writeHead(404).end()
      return
    }
    const body = request.method === 'POST' ? await readJsonBody(request) : undefined
    if (request.method === 'POST' && body === undefined) {
      sendRpcError(response, 400, { code: -32700, message: 'Parse error: the body is not JSON' })
      return
    }
    // True of every request that a server receives: only `method?: string` and `method?: string | undefined` differ.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const sdkRequest = request as NodeIncomingMessageLike
    const isLegacy = await isLegacyRequest(await toWebRequest(sdkRequest, body), body)
    if (isLegacy) await sessions.handle(request, response, body)
    else await handleModern(sdkRequest, response, body)
  }

  const fixture = await listenOnLoopback((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy()
      else sendRpcError(response, 500, { code: -32603, message: String(error) })
    })
  }, options.port)

  return {
    url: `http://127.0.0.1:${fixture.port}/mcp`,
    port: fixture.port,
    sessionIds: () => sessions.ids(),
    dropSessions: () => sessions.drop(),
    slowCalls: () => context.slowCalls(),
    announce: (change) => context.announce(change),
    async stop() {
      await modern.close()
      await sessions.drop()
      await fixture.close()
    },
  }
}

function notifyModern({ notify }: McpHttpHandler, change: Change): void {
  if (change.kind === 'tools') notify.toolsChanged()
  else if (change.kind === 'prompts') notify.promptsChanged()
  else if (change.kind === 'resources') notify.resourcesChanged()
  else notify.resourceUpdated(change.uri)
}
