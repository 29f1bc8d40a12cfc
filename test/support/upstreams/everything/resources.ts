// The everything server's resources: text, binary, watched, and a template; with subscriptions for sessions.

import { ResourceTemplate, type McpServer } from '@modelcontextprotocol/server'
import { redPixelPng } from './media.ts'

/** Registers the resources, and the subscription methods that sessions have; `subscribed` is the session's own set of URIs. */
export function registerResources(server: McpServer, subscribed: Set<string>): void {
  registerText(server, 'static-text', 'This is the content of the static text resource.')
  registerText(server, 'watched-resource', 'This resource can be subscribed to.')
  const binaryUri = 'test://static-binary'
  const binary = { uri: binaryUri, mimeType: 'image/png', blob: redPixelPng }
  server.registerResource(
    'static-binary',
    binaryUri,
    { description: 'A static binary resource', mimeType: 'image/png' },
    () => ({ contents: [binary] }),
  )
  server.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'A resource template', mimeType: 'application/json' },
    (uri, { id }) => {
      const body = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${String(id)}` })
      return { contents: [{ uri: uri.href, mimeType: 'application/json', text: body }] }
    },
  )
  server.server.setRequestHandler('resources/subscribe', ({ params }) => {
    subscribed.add(params.uri)
    return {}
  })
  server.server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    subscribed.delete(params.uri)
    return {}
  })
}

function registerText(server: McpServer, name: string, text: string): void {
  const uri = `test://${name}`
  server.registerResource(
    name,
    uri,
    { description: `The ${name} resource`, mimeType: 'text/plain' },
    () => ({ contents: [{ uri, mimeType: 'text/plain', text }] }),
  )
}
