// Tools that talk with the client while they run, for servers whose connection carries everything.

import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { textResult } from './files/file-tools.ts'

/** What became of the calls of `wait`. */
export type Waits = ('waiting' | 'cancelled')[]

/** Registers `ask`, which elicits a name, `wait`, which ends by cancellation only, and `grow`, which adds a tool. */
export function registerInteractiveTools(server: McpServer, waits: Waits): void {
  server.registerTool('ask', { description: 'Asks the user for a name' }, async (extra) => {
    const answer = await server.server.elicitInput(
      {
        message: 'What is your name?',
        requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
      },
      { signal: extra.signal },
    )
    return textResult(`Hello ${String(answer.content?.['name'])}`)
  })
  server.registerTool('wait', { description: 'Waits until it is cancelled' }, async (extra) => {
    waits.push('waiting')
    await new Promise<void>((resolve) => {
      extra.signal.addEventListener('abort', () => resolve())
    })
    waits.push('cancelled')
    return textResult('cancelled')
  })
  server.registerTool('grow', { description: 'Adds a tool' }, () => {
    server.registerTool('grown', { description: 'Was added' }, () => textResult('grown'))
    return textResult('done')
  })
}
