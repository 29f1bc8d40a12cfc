/** The configuration as the rest of the program reads it: complete, camelCase, inherited values resolved, frozen. */

import type { Camelized } from './camel.ts'
import type { ConfigDocument } from './schema/document.ts'

type Document = Camelized<ConfigDocument>
type ServerDocument = Document['servers'][number]
type AdapterDocument = ServerDocument['adapters'][number]

/** What is resolved for tool calls, by inheritance adapter, server, core. */
export interface ToolCallSettings {
  /** Seconds a call may take; null for no limit. */
  readonly toolCallTimeoutSeconds: number | null
  /** Whether the bytes of an artifact are appended to the result. */
  readonly allowRawOutput: boolean
}

/** `core`. */
export interface CoreConfig extends Omit<Document['core'], 'defaults'> {
  /** Defaults of tool calls on every server. */
  readonly defaults: ToolCallSettings
}

/** `state_persistence`; the database path is filled in, `tls` is also true when `tls_insecure` is. */
export interface StatePersistenceConfig extends Omit<Document['statePersistence'], 'disk'> {
  readonly disk: Omit<Document['statePersistence']['disk'], 'localPath'> & {
    readonly localPath: string
  }
}

/** `storage`; `auto` is resolved to what it stands for. */
export interface StorageConfig extends Omit<Document['storage'], 'lockMode'> {
  readonly lockMode: Exclude<Document['storage']['lockMode'], 'auto'>
}

/** `telemetry`; the endpoints of the chosen transport are filled in. */
export interface TelemetryConfig extends Omit<
  Document['telemetry'],
  'endpoint' | 'logsEndpoint' | 'traces'
> {
  readonly endpoint: string
  readonly logsEndpoint: string
  readonly traces: Omit<Document['telemetry']['traces'], 'endpoint'> & { readonly endpoint: string }
}

/** `sessions`. */
export type SessionsConfig = Document['sessions']

/** `uploads`. */
export type UploadsConfig = Document['uploads']

/** `artifacts`. */
export type ArtifactsConfig = Document['artifacts']

/** `servers[].upstream`. */
export type UpstreamConfig = ServerDocument['upstream']

/** Tools that take uploaded files, with their effective call settings. */
export interface UploadConsumerConfig
  extends
    Omit<Extract<AdapterDocument, { type: 'upload_consumer' }>, 'overrides' | 'uriScheme'>,
    ToolCallSettings {
  /** How the handles begin; always that of `uploads`. */
  readonly uriScheme: string
}

/** Tools that make files, with their effective call settings. */
export interface ArtifactProducerConfig
  extends
    Omit<
      Extract<AdapterDocument, { type: 'artifact_producer' }>,
      'overrides' | 'allowRawOutput' | 'includeRawOutput'
    >,
    ToolCallSettings {}

/** Any adapter, told apart by `type`. */
export type AdapterConfig = UploadConsumerConfig | ArtifactProducerConfig

/** One server with everything it inherits resolved; its own call settings are those of tools without an adapter. */
export interface ServerConfig extends ToolCallSettings {
  readonly id: string
  readonly mountPath: string
  readonly upstream: UpstreamConfig
  readonly upstreamPing: CoreConfig['upstreamPing']
  readonly codeModeEnabled: boolean
  readonly shortenDescriptions: boolean
  readonly shortDescriptionMaxTokens: number
  readonly toolDescriptionPolicy: CoreConfig['toolDescriptionPolicy']
  readonly toolMetadataSanitization: CoreConfig['toolMetadataSanitization']
  readonly toolDefinitionPinning: CoreConfig['toolDefinitionPinning']
  readonly disabledTools: readonly string[]
  readonly adapters: readonly AdapterConfig[]
}

/** The effective configuration. Frozen throughout: hand subsystems their section, not the whole. */
export interface Config {
  readonly core: CoreConfig
  readonly statePersistence: StatePersistenceConfig
  readonly storage: StorageConfig
  readonly sessions: SessionsConfig
  readonly uploads: UploadsConfig
  readonly artifacts: ArtifactsConfig
  readonly telemetry: TelemetryConfig
  readonly servers: readonly ServerConfig[]
}
