// Tools without files of their own: embedded content blocks, nothing, an error, a slow answer with progress, an echo.

import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import type {
  CallToolResult,
  ServerNotification,
  ServerRequest,
} from '@modelcontextprotocol/sdk/types.js'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { redPixelPng } from '../everything/media.ts'
import { textResult } from './file-tools.ts'

/** Bytes of the `embedded_blob` tool's resource: every byte value once. */
export const embeddedBlobBytes: Buffer = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

const constantResults: Readonly<Record<string, CallToolResult>> = {
  embedded_image: { content: [{ type: 'image', data: redPixelPng, mimeType: 'image/png' }] },
  embedded_blob: {
    content: [
      {
        type: 'resource',
        resource: {
          uri: 'file-server://blobs/all-bytes.bin',
          mimeType: 'application/octet-stream',
          blob: embeddedBlobBytes.toString('base64'),
        },
      },
    ],
  },
  embedded_text: {
    content: [
      {
        type: 'resource',
        resource: {
          uri: 'file-server://texts/hello.txt',
          mimeType: 'text/plain',
          text: 'Hello, wörld',
        },
      },
    ],
  },
  no_output: { content: [] },
  fail: { ...textResult('This tool always fails'), isError: true },
}

/** Registers the tools. */
export function registerAnswerTools(server: McpServer): void {
  for (const [name, result] of Object.entries(constantResults)) {
    server.registerTool(name, { description: `Answers the same each time: ${name}` }, () => result)
  }
  server.registerTool(
    'slow',
    { description: 'Answers after a while, in ten steps', inputSchema: { ms: z.number().min(0) } },
    async ({ ms }, extra) => {
      for (let step = 1; step <= 10; step += 1) {
        // Steps follow one another.
        await delay(ms / 10, undefined, { signal: extra.signal })
        await reportProgress(extra, step)
      }
      return textResult(`Waited for ${ms} ms`)
    },
  )
  server.registerTool(
    'echo',
    { description: 'Answers its arguments as JSON', inputSchema: z.looseObject({}) },
    (input) => textResult(JSON.stringify(input)),
  )
}

async function reportProgress(
  { _meta, sendNotification }: RequestHandlerExtra<ServerRequest, ServerNotification>,
  progress: number,
): Promise<void> {
  const progressToken = _meta?.progressToken
  if (progressToken === undefined) return
  await sendNotification({
    method: 'notifications/progress',
    params: { progressToken, progress, total: 10 },
  })
}
