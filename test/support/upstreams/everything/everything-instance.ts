// Composes one instance of the everything server: an McpServer for one session, or for one modern request.

import { McpServer } from '@modelcontextprotocol/server'
import { registerContentTools } from './content-tools.ts'
import type { EverythingContext } from './everything-context.ts'
import { registerMultiRoundTools } from './multi-round-tools.ts'
import { registerPrompts } from './prompts.ts'
import { registerPushTools } from './push-tools.ts'
import { registerResources } from './resources.ts'
import { registerStreamTools } from './stream-tools.ts'

/** Builds an instance; `subscribed` receives the URIs that its session subscribes to. */
export function createEverythingInstance(
  context: EverythingContext,
  subscribed = new Set<string>(),
): McpServer {
  const server = new McpServer(
    { name: 'everything-server', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged: true },
        prompts: { listChanged: true },
        resources: { listChanged: true, subscribe: true },
        logging: {},
        completions: {},
      },
      requestState: { verify: (state, ctx) => context.requestState.verify(state, ctx) },
    },
  )
  registerContentTools(server)
  registerStreamTools(server, context)
  registerPushTools(server)
  registerMultiRoundTools(server, context)
  registerPrompts(server)
  registerResources(server, subscribed)
  return server
}
