// Composes one instance of the file server: an McpServer for one session, or for one request when it is stateless.

import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js'
import { registerAnswerTools } from './answer-tools.ts'
import { registerFileTools } from './file-tools.ts'

/** Builds an instance that writes into `workspace`, with or without resources. */
export function createFileInstance(options: {
  workspace: string
  hasResources: boolean
}): McpServer {
  const server = new McpServer({ name: 'file-server', version: '1.0.0' })
  registerFileTools(server, options.workspace)
  registerAnswerTools(server)
  if (options.hasResources) registerResources(server)
  return server
}

function registerResources(server: McpServer): void {
  server.registerResource(
    'readme',
    'file-server://readme',
    { description: 'A static resource', mimeType: 'text/plain' },
    (uri) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'Read me' }] }),
  )
  server.registerResource(
    'note',
    new ResourceTemplate('file-server://notes/{name}', { list: undefined }),
    { description: 'A resource template', mimeType: 'text/plain' },
    (uri, { name }) => ({
      contents: [{ uri: uri.href, mimeType: 'text/plain', text: `Note ${String(name)}` }],
    }),
  )
}
