/** Where clients find an artifact: its resource URI and its download URL. */
import type { ArtifactRecord } from '../../shared/state/records.ts'
import type { CallContext } from './adapter.ts'
import { formatArtifactUri } from './item-uri.ts'

/** The resource URI of an artifact of the caller's session. */
export function artifactUri(context: CallContext, artifact: ArtifactRecord): string {
  const { artifactId, filename } = artifact
  const { uriScheme } = context.services.config.artifacts
  return formatArtifactUri(uriScheme, { sessionId: context.key.sessionId, artifactId, filename })
}

/** A signed URL that serves an artifact for as long as it lives unused; undefined while downloads are off. */
export function downloadUrl(context: CallContext, artifact: ArtifactRecord): string | undefined {
  const { config, signer } = context.services
  if (!config.core.allowArtifactsDownload) return undefined
  const { serverId, sessionId } = context.key
  const { artifactId, filename } = artifact
  const ttlSeconds = config.artifacts.ttlSeconds ?? config.core.auth.signedUploadTtlSeconds
  const expiresAtSeconds = Math.floor(Date.now() / 1000) + ttlSeconds
  const query = signer.signDownload({ serverId, sessionId, artifactId, filename, expiresAtSeconds })
  const path = [serverId, sessionId, artifactId, filename].map(encodeURIComponent).join('/')
  return `${context.baseUrl}/artifacts/${path}?${query}`
}
