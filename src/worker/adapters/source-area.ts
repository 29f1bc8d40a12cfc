/**
 * Where files that tools name may be read from: the caller's own session directory, the server's workspace, and roots that the operator allowed.
 * Results of tools carry text from anywhere (a web page, say), so a named path is treated as an attack until it has been opened and checked.
 */
import { constants } from 'node:fs'
import { lstat, open, readlink, realpath, type FileHandle } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, resolve, sep } from 'node:path'

import { isTempName } from '../../shared/files/layout.ts'
import type { ServerConfig } from '../../shared/config/config.ts'
import type { CallContext } from './adapter.ts'
import { asAdapterSees } from './session-root.ts'

/** A regular file that may be read; whoever holds it closes the handle. */
export interface OpenSource {
  readonly handle: FileHandle
  /** Its own name, without directories. */
  readonly name: string
  readonly sizeBytes: number
}

/** O_NONBLOCK: a FIFO must not hang the open. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** What is the same for all calls of a server, as real paths. */
interface ServerPaths {
  /** Of the storage. */
  readonly root: string
  readonly allowed: readonly string[]
  readonly denied: readonly string[]
  readonly stateFile: string
}

/** All but `bases` and `uploads` are real paths. */
interface AreaPaths extends ServerPaths {
  /** The caller's own session directory. */
  readonly own: string
  /** Where relative paths start. */
  readonly bases: readonly string[]
  /** The caller's own uploads, by every path they are known under. */
  readonly uploads: readonly string[]
}

/** How long the operator's directories are taken to be where they were, in milliseconds. */
const RESOLVED_FOR_MS = 1_000

/** By server. A call that finds them was under way, as it were, when they were resolved. */
const resolved = new WeakMap<ServerConfig, { paths: Promise<ServerPaths>; untilMs: number }>()

/** The directories of one call, as they were when it was made, or a moment before. */
export class SourceArea {
  readonly #context: CallContext
  readonly #paths: AreaPaths
  /** Directories by name: what a result names is mostly in one place. What is opened is checked by itself. */
  readonly #parents = new Map<string, Promise<string>>()

  private constructor(context: CallContext, paths: AreaPaths) {
    this.#context = context
    this.#paths = paths
  }

  /** Resolves the directories. `itemDir` is the directory that the tool was told to write to, if it was. */
  static async of(context: CallContext, itemDir: string | undefined): Promise<SourceArea> {
    const { files } = context.services
    const paths = await serverPaths(context)
    const sessionDir = files.sessionDir(context.key)
    // Not the session directory's real path: it could have been replaced by a link to another session's.
    const own = join(paths.root, sessionDir.slice(files.root.length))
    const { workspaceRoot, sessionRoot } = context.server.upstream
    const item = itemDir === undefined ? [] : [itemDir]
    const workspace = workspaceRoot === null ? [] : [resolve(workspaceRoot)]
    return new SourceArea(context, {
      ...paths,
      own,
      // An upstream that has the session's directory for its root reports paths from there.
      bases: sessionRoot.enabled
        ? [sessionDir, ...item, ...workspace]
        : [...workspace, ...item, sessionDir],
      uploads: [join(sessionDir, 'uploads'), join(own, 'uploads')],
    })
  }

  /** Absolute paths that a named path can stand for: a relative one starts in the workspace or the session's root, then in the session's directories. */
  resolve(named: string): readonly string[] {
    const { services, server } = this.#context
    return isAbsolute(named)
      ? [resolve(asAdapterSees(services.files, server, named))]
      : this.#paths.bases.map((base) => resolve(base, named))
  }

  /** True for a path in the caller's own uploads. */
  isOwnUpload(path: string): boolean {
    return this.#paths.uploads.some((directory) => isWithin(directory, path))
  }

  /** Opens a file if it is there, regular, no link, and really inside the area; undefined otherwise. */
  async open(path: string): Promise<OpenSource | undefined> {
    // Looked at first by name, so that nothing outside is even opened; what counts is the check of the descriptor.
    if (!this.#permits(await this.#realEntry(path))) return undefined
    const handle = await open(path, READ_FLAGS).catch(() => undefined)
    if (handle === undefined) return undefined
    let source: OpenSource | undefined
    try {
      const stats = await handle.stat()
      const real = await realPathOfOpen(handle, path)
      if (stats.isFile() && real !== undefined && this.#permits(real)) {
        source = { handle, name: basename(real), sizeBytes: stats.size }
      }
    } finally {
      if (source === undefined) await handle.close()
    }
    return source
  }

  async #realEntry(path: string): Promise<string> {
    const parent = dirname(path)
    let real = this.#parents.get(parent)
    if (real === undefined) {
      real = realParent(parent)
      this.#parents.set(parent, real)
    }
    return join(await real, basename(path))
  }

  #permits(real: string): boolean {
    const { own, stateFile, denied, allowed } = this.#paths
    if (isTempName(basename(real))) return false
    if (isWithin(own, real)) return true
    // `adapter_state.sqlite3-wal` and its like share the beginning of the name.
    if (real.startsWith(stateFile)) return false
    if (denied.some((directory) => isWithin(directory, real))) return false
    return allowed.some((directory) => isWithin(directory, real))
  }
}

async function serverPaths(context: CallContext): Promise<ServerPaths> {
  const nowMs = performance.now()
  const known = resolved.get(context.server)
  if (known !== undefined && nowMs < known.untilMs) return known.paths
  const paths = resolveServerPaths(context)
  resolved.set(context.server, { paths, untilMs: nowMs + RESOLVED_FOR_MS })
  // The next call tries again.
  paths.catch(() => resolved.delete(context.server))
  return paths
}

async function resolveServerPaths({ services, server }: CallContext): Promise<ServerPaths> {
  const { config, files } = services
  const root = await realpath(files.root)
  const workspace = server.upstream.workspaceRoot
  const roots = workspace === null ? [] : [workspace]
  if (config.storage.artifactLocatorPolicy === 'allow_configured_roots') {
    roots.push(...config.storage.artifactLocatorAllowedRoots)
  }
  const allowed = await Promise.all(roots.map((path) => realRoot(path)))
  const stateFile = await realRoot(config.statePersistence.disk.localPath)
  const denied = [join(root, 'sessions'), join(root, 'state')]
  // The state file's neighbours are state as well, unless the operator put a workspace there.
  const stateDir = dirname(stateFile)
  if (!allowed.some((path) => path === stateDir || isWithin(stateDir, path))) {
    denied.push(stateDir)
  }
  return { root, allowed, denied, stateFile }
}

async function realRoot(path: string): Promise<string> {
  return realpath(path).catch(() => realEntry(path))
}

/** The real path of a directory entry: its parents are followed, itself not. */
async function realEntry(path: string): Promise<string> {
  const absolute = resolve(path)
  return join(await realParent(dirname(absolute)), basename(absolute))
}

/** One that is not there has no real path; nothing in it can be opened either. */
async function realParent(directory: string): Promise<string> {
  return realpath(directory).catch(() => directory)
}

/** Linux tells where an open file really is. Elsewhere the name is resolved again and must still mean the same file. */
async function realPathOfOpen(handle: FileHandle, path: string): Promise<string | undefined> {
  const told = await readlink(`/proc/self/fd/${handle.fd}`).catch(() => undefined)
  if (told !== undefined) return told
  const real = await realEntry(path)
  const [opened, named] = await Promise.all([handle.stat(), lstat(real).catch(() => undefined)])
  return named?.ino === opened.ino && named.dev === opened.dev ? real : undefined
}

function isWithin(directory: string, path: string): boolean {
  return path.startsWith(directory.endsWith(sep) ? directory : directory + sep)
}
