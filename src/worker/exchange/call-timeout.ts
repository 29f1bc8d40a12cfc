/** The time limit of a tool call. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Message } from './json-rpc.ts'

/** In milliseconds, null for none. Limits are for tool calls, one in a body; an adapter of a tool may set its own. */
export function callTimeoutMs(
  server: ServerConfig,
  requests: readonly Extract<Message, { kind: 'request' }>[],
): number | null {
  const [request] = requests
  if (request === undefined || requests.length !== 1 || request.method !== 'tools/call') return null
  const name = request.params?.['name']
  const adapter = server.adapters.find(
    (one) => typeof name === 'string' && one.tools.includes(name),
  )
  const seconds = (adapter ?? server).toolCallTimeoutSeconds
  return seconds === null ? null : seconds * 1_000
}
