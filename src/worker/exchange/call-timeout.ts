/** The time limit of a request: of the tool's adapter, else of the server, else of `core.defaults`. */
import type { ServerConfig } from '../../shared/config/config.ts'
import type { Message } from './json-rpc.ts'
import { SAFE_METHODS } from './safe-methods.ts'

/** Methods besides tool calls and those that read that are answered soon or never. Others, those of extensions among them, may wait for something. */
const PROMPT_METHODS: ReadonlySet<string> = new Set([
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
])

/** In milliseconds, null for none. Limits are for requests that stand alone in their body. */
export function callTimeoutMs(
  server: ServerConfig,
  requests: readonly Extract<Message, { kind: 'request' }>[],
): number | null {
  const [request] = requests
  if (request === undefined || requests.length !== 1) return null
  const { method, params } = request
  if (method !== 'tools/call' && !SAFE_METHODS.has(method) && !PROMPT_METHODS.has(method))
    return null
  const name = method === 'tools/call' ? params?.['name'] : undefined
  const adapter = server.adapters.find(
    (one) => typeof name === 'string' && one.tools.includes(name),
  )
  const seconds = (adapter ?? server).toolCallTimeoutSeconds
  return seconds === null ? null : seconds * 1_000
}
