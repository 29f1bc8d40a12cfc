/** What the adapter itself offers on a server, decided from the configuration alone: disabled tools, the helper tool, artifact resources. */
import type {
  ArtifactProducerConfig,
  Config,
  ServerConfig,
  UploadConsumerConfig,
} from '../../shared/config/config.ts'
import { LinearPattern } from '../../shared/config/patterns.ts'

/** An entry that can match nothing but itself. */
const PLAIN_NAME = /^[\w/-]+$/

interface AdaptersByTool {
  readonly consumers: ReadonlyMap<string, UploadConsumerConfig>
  readonly producers: ReadonlyMap<string, ArtifactProducerConfig>
}

const patternsOf = new WeakMap<ServerConfig, readonly LinearPattern[]>()
const adaptersOf = new WeakMap<ServerConfig, AdaptersByTool>()

/** True when `disabled_tools` names the tool, exactly or by a pattern that matches the whole name. */
export function isDisabledTool(server: ServerConfig, toolName: string): boolean {
  if (server.disabledTools.length === 0) return false
  if (server.disabledTools.includes(toolName)) return true
  let patterns = patternsOf.get(server)
  if (patterns === undefined) {
    patterns = server.disabledTools.filter((entry) => !PLAIN_NAME.test(entry)).map(compile)
    patternsOf.set(server, patterns)
  }
  return patterns.some((pattern) => pattern.matchesWhole(toolName))
}

/** True for a tool that clients can have from the upstream: not disabled, and not in the place of the helper. */
export function isUpstreamTool(server: ServerConfig, config: Config, toolName: string): boolean {
  if (isDisabledTool(server, toolName)) return false
  return toolName !== helperToolName(server.id) || !offersHelper(server, config)
}

/** Name of the tool that hands out upload URLs for a server. */
export function helperToolName(serverId: string): string {
  return `${toolPrefix(serverId)}_get_upload_url`
}

/** What the names of the adapter's own tools on a server begin with, before an underscore. */
export function toolPrefix(serverId: string): string {
  const prefix = serverId.replace(/\W+/g, '_').replace(/^_+|_+$/g, '')
  return prefix === '' ? 'server' : prefix
}

/** True when the server has a tool that takes uploads, uploads are on, and the helper is not disabled. */
export function offersHelper(server: ServerConfig, config: Config): boolean {
  return (
    config.uploads.enabled &&
    server.adapters.some((adapter) => adapter.type === 'upload_consumer') &&
    !isDisabledTool(server, helperToolName(server.id))
  )
}

/** True when artifacts of the server's tools can be seen as MCP resources. */
export function offersArtifactResources(server: ServerConfig, config: Config): boolean {
  return (
    config.artifacts.enabled &&
    config.artifacts.exposeAsResources &&
    server.adapters.some(
      (adapter) =>
        adapter.type === 'artifact_producer' && adapter.persist && adapter.exposeAsResource,
    )
  )
}

/** The upload adapter of a tool; none while uploads are off. The configuration allows one of each type a tool. */
export function consumerOf(
  server: ServerConfig,
  config: Config,
  toolName: string,
): UploadConsumerConfig | undefined {
  return config.uploads.enabled ? adaptersByTool(server).consumers.get(toolName) : undefined
}

/** The artifact adapter of a tool; none while artifacts are off. */
export function producerOf(
  server: ServerConfig,
  config: Config,
  toolName: string,
): ArtifactProducerConfig | undefined {
  return config.artifacts.enabled ? adaptersByTool(server).producers.get(toolName) : undefined
}

/** True when an adapter is configured for the tool, whether or not its kind is on at present. */
export function hasAdapter(server: ServerConfig, toolName: string): boolean {
  const { consumers, producers } = adaptersByTool(server)
  return consumers.has(toolName) || producers.has(toolName)
}

function adaptersByTool(server: ServerConfig): AdaptersByTool {
  const known = adaptersOf.get(server)
  if (known !== undefined) return known
  const consumers = new Map<string, UploadConsumerConfig>()
  const producers = new Map<string, ArtifactProducerConfig>()
  for (const adapter of server.adapters) {
    for (const tool of adapter.tools) {
      if (adapter.type === 'upload_consumer') consumers.set(tool, adapter)
      else producers.set(tool, adapter)
    }
  }
  const made = { consumers, producers }
  adaptersOf.set(server, made)
  return made
}

function compile(source: string): LinearPattern {
  return new LinearPattern(source)
}
