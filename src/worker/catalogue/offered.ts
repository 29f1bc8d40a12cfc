/** What the adapter itself offers on a server, decided from the configuration alone: disabled tools, the helper tool, artifact resources. */
import type {
  ArtifactProducerConfig,
  Config,
  ServerConfig,
  UploadConsumerConfig,
} from '../../shared/config/config.ts'

const patternsOf = new WeakMap<ServerConfig, readonly RegExp[]>()

/** True when `disabled_tools` names the tool, exactly or by a pattern that matches the whole name. */
export function isDisabledTool(server: ServerConfig, toolName: string): boolean {
  if (server.disabledTools.length === 0) return false
  if (server.disabledTools.includes(toolName)) return true
  let patterns = patternsOf.get(server)
  if (patterns === undefined) {
    patterns = server.disabledTools.flatMap(compile)
    patternsOf.set(server, patterns)
  }
  return patterns.some((pattern) => pattern.test(toolName))
}

/** Name of the tool that hands out upload URLs for a server. */
export function helperToolName(serverId: string): string {
  const prefix = serverId.replace(/\W+/g, '_').replace(/^_+|_+$/g, '')
  return `${prefix === '' ? 'server' : prefix}_get_upload_url`
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
  if (!config.uploads.enabled) return undefined
  return server.adapters
    .filter((adapter) => adapter.type === 'upload_consumer')
    .find((adapter) => adapter.tools.includes(toolName))
}

/** The artifact adapter of a tool; none while artifacts are off. */
export function producerOf(
  server: ServerConfig,
  config: Config,
  toolName: string,
): ArtifactProducerConfig | undefined {
  if (!config.artifacts.enabled) return undefined
  return server.adapters
    .filter((adapter) => adapter.type === 'artifact_producer')
    .find((adapter) => adapter.tools.includes(toolName))
}

function compile(pattern: string): readonly RegExp[] {
  try {
    return [new RegExp(`^(?:${pattern})$`)]
  } catch {
    return [] // an entry that is no pattern counts as an exact name only
  }
}
