/** The directory of a session as the only root of its upstream, and paths below the sessions' directory as that upstream knows them. */
import { join, posix } from 'node:path'
import { pathToFileURL } from 'node:url'

import type { ServerConfig } from '../../shared/config/config.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { SessionKey } from '../../shared/state/records.ts'

/** Directories of a session that are the adapter's: what is in them is uploads and artifacts already. */
export const OWN_DIRECTORIES = ['uploads', 'artifacts'] as const

/** The session's directory as a `file://` URI of the upstream's; made when it is not there. Rejects when it can't be. */
export async function sessionRootUri(
  files: FileStore,
  server: ServerConfig,
  key: SessionKey,
): Promise<string> {
  const directory = await files.createSessionDir(key)
  return pathToFileURL(asUpstreamSees(files, server, directory)).href
}

/** A path below the sessions' directory as the upstream has it. */
export function asUpstreamSees(files: FileStore, server: ServerConfig, path: string): string {
  const { sessionsPath } = server.upstream.sessionRoot
  if (sessionsPath === null) return path
  return posix.join(sessionsPath, path.slice(files.sessionsDir.length))
}

/** An absolute path that the upstream named, as it is here. */
export function asAdapterSees(files: FileStore, server: ServerConfig, path: string): string {
  const { sessionsPath } = server.upstream.sessionRoot
  if (sessionsPath === null) return path
  const base = posix.join(sessionsPath, '/')
  const normal = posix.normalize(path)
  return normal.startsWith(base) ? join(files.sessionsDir, normal.slice(base.length)) : path
}
