/** A server with one tool for each stop of the client walk (`test/support/transport-walk.ts`), for any transport. Its state is that of one session. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { ElicitResultSchema, EmptyResultSchema } from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'

/** Builds the server of one session. */
export function createWalkInstance(): McpServer {
  const server = new McpServer(
    { name: 'walk', version: '1' },
    { capabilities: { logging: {}, tools: {} } },
  )
  const cancelled: string[] = []
  let calls = 0

  server.registerTool('greet', { inputSchema: { name: z.string() } }, ({ name }) => {
    calls++
    return say(`Hello, ${name}; call ${calls}`)
  })
  server.registerTool(
    'count',
    { inputSchema: { to: z.number() } },
    async ({ to }, { _meta, sendNotification, sendRequest }) => {
      for (let progress = 1; progress <= to; progress++) {
        const params = { progressToken: _meta?.progressToken ?? 'none', progress, total: to }
        // oxlint-disable-next-line no-await-in-loop -- in order
        await sendNotification({ method: 'notifications/progress', params })
      }
      // The SDK's client takes no progress any more once it has the result, and it takes the result first when both come at the same moment.
      await sendRequest({ method: 'ping' }, EmptyResultSchema)
      return say(`counted to ${to}`)
    },
  )
  server.registerTool(
    'wait',
    { inputSchema: { word: z.string() } },
    async ({ word }, { signal, _meta, sendNotification }) => {
      const params = { progressToken: _meta?.progressToken ?? 'none', progress: 1 }
      await sendNotification({ method: 'notifications/progress', params })
      await new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
      cancelled.push(word)
      return say('nobody reads this')
    },
  )
  server.registerTool('cancelled', {}, () => say(cancelled.join(' ')))
  server.registerTool('ask', {}, async ({ sendRequest }) => {
    const name = { type: 'string' as const }
    const params = {
      message: 'Your name?',
      requestedSchema: { type: 'object' as const, properties: { name } },
    }
    const answer = await sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema)
    return say(JSON.stringify(answer.content))
  })
  server.registerTool('read', { inputSchema: { path: z.string() } }, async ({ path }) =>
    say(await readFile(path, 'utf8')),
  )
  server.registerTool(
    'write',
    { inputSchema: { path: z.string(), text: z.string() } },
    async ({ path, text }) => {
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, text)
      return say('written')
    },
  )
  server.registerTool('announce', { inputSchema: { data: z.string() } }, async ({ data }) => {
    // On no call's own stream.
    await server.server.sendLoggingMessage({ level: 'info', data })
    return say('announced')
  })
  return server
}

function say(text: string) {
  return { content: [{ type: 'text' as const, text }] }
}
