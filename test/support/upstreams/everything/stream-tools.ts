// Tools that say something before they answer, or whose effect is seen on another stream: progress, logging, a stream
// closed half-way, change notifications, and a slow call that notices its cancellation.

import type { McpServer, ServerContext } from '@modelcontextprotocol/server'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { textResult } from './content-tools.ts'
import type { EverythingContext } from './everything-context.ts'

const pauseMs = 50

/** Registers the tools that stream. */
export function registerStreamTools(server: McpServer, context: EverythingContext): void {
  server.registerTool(
    'test_tool_with_logging',
    { description: 'Sends three log messages' },
    async (ctx) => {
      await ctx.mcpReq.log('info', 'Tool execution started')
      await delay(pauseMs)
      await ctx.mcpReq.log('info', 'Tool processing data')
      await delay(pauseMs)
      await ctx.mcpReq.log('info', 'Tool execution completed')
      return textResult('Three log messages were sent')
    },
  )
  server.registerTool(
    'test_logging_tool',
    { description: 'Sends one log message' },
    async (ctx) => {
      await ctx.mcpReq.log('info', 'One log message')
      return textResult('One log message was sent, if the request asked for any')
    },
  )
  server.registerTool(
    'test_tool_with_progress',
    { description: 'Reports progress three times' },
    async (ctx) => {
      await reportProgress(ctx, 0)
      await delay(pauseMs)
      await reportProgress(ctx, 50)
      await delay(pauseMs)
      await reportProgress(ctx, 100)
      return textResult('Progress was reported')
    },
  )
  server.registerTool(
    'test_reconnection',
    { description: 'Closes its own stream before it answers; the answer waits for Last-Event-ID' },
    async (ctx) => {
      ctx.http?.closeSSE?.()
      await delay(2 * pauseMs)
      return textResult('Answered after the stream was closed')
    },
  )
  registerSlowTool(server, context)
  registerTriggers(server, context)
}

async function reportProgress(ctx: ServerContext, progress: number, total = 100): Promise<void> {
  const { _meta: meta } = ctx.mcpReq
  const progressToken = meta?.progressToken
  if (progressToken === undefined) return
  const params = { progressToken, progress, total, message: `${progress} of ${total}` }
  await ctx.mcpReq.notify({ method: 'notifications/progress', params })
}

function registerSlowTool(server: McpServer, context: EverythingContext): void {
  const inputSchema = z.object({
    key: z.string(),
    durationMs: z.number().int().min(0).max(600_000),
  })
  server.registerTool(
    'test_slow_tool',
    { description: 'Takes its time, and records whether it was cancelled', inputSchema },
    async ({ key, durationMs }, ctx) => {
      context.recordSlowCall({ key, outcome: 'running' })
      await reportProgress(ctx, 0)
      try {
        await delay(durationMs, undefined, { signal: ctx.mcpReq.signal })
      } catch (error) {
        context.recordSlowCall({ key, outcome: 'cancelled' })
        throw error
      }
      context.recordSlowCall({ key, outcome: 'completed' })
      return textResult(`Slept for ${durationMs} ms`)
    },
  )
  server.registerTool(
    'test_slow_calls',
    { description: 'Lists the calls of test_slow_tool and how each of them ended' },
    () => textResult(JSON.stringify(context.slowCalls())),
  )
}

function registerTriggers(server: McpServer, context: EverythingContext): void {
  const lists = {
    test_trigger_tool_change: 'tools',
    test_trigger_prompt_change: 'prompts',
    test_trigger_resource_change: 'resources',
  } as const
  for (const [name, kind] of Object.entries(lists)) {
    server.registerTool(name, { description: `Announces that the list of ${kind} changed` }, () => {
      context.announce({ kind })
      return textResult(`Announced a change of ${kind}`)
    })
  }
  server.registerTool(
    'test_trigger_resource_update',
    {
      description: 'Announces that a resource was updated',
      inputSchema: z.object({ uri: z.string() }),
    },
    ({ uri }) => {
      context.announce({ kind: 'resource', uri })
      return textResult(`Announced an update of ${uri}`)
    },
  )
}
