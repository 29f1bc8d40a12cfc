/**
 * Opens, creates and removes files of the layout, for event loops: nothing waits for the disk in place. Upstreams may write to the same volume:
 * nothing here follows a link out of an item's directory. `SyncFileStore` does the same for threads that may wait.
 */
import { close as closeFd, constants, fstat, open as openFd, type Stats } from 'node:fs'
import {
  lstat,
  mkdir,
  open,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  type FileHandle,
} from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { promisify } from 'node:util'

import type { FileRef, SessionKey } from '../state/records.ts'
import {
  CREATE_FLAGS,
  FileLayout,
  isTempName,
  openingError,
  READ_FLAGS,
  UnsafePathError,
} from './layout.ts'
import {
  ignoreMissing,
  listItems,
  listSessions,
  statOrUndefined,
  type FoundItem,
} from './stored-items.ts'

/** An open item; the caller closes the handle. */
export interface OpenItem {
  readonly handle: FileHandle
  readonly sizeBytes: number
  readonly mtimeMs: number
}

/** The same as a raw descriptor, which no garbage collection closes; the caller closes it. */
export interface OpenItemFd {
  readonly fd: number
  readonly sizeBytes: number
  readonly mtimeMs: number
}

const openFdAsync = promisify(openFd)
const fstatAsync = promisify(fstat)
const closeFdAsync = promisify(closeFd)

/** See the file comment. Errors of the file system are passed on as they are (`ENOENT`, `ELOOP`, `ENOSPC` …). */
export class FileStore extends FileLayout {
  /** Makes an item's directory, for good when writes are atomic, and answers its path; refuses when a link stands anywhere between the root and it. */
  async createItemDir(ref: FileRef): Promise<string> {
    const directory = this.itemDir(ref)
    const firstCreated = await mkdir(directory, { recursive: true })
    if ((await realpath(directory)) !== (await this.#realPathOf(directory))) {
      throw new UnsafePathError(`${directory} is reached through a symbolic link`)
    }
    if (this.atomicWrites && firstCreated !== undefined) await syncParents(firstCreated, directory)
    return directory
  }

  /** Makes a session's directory as it may be told to an upstream, and answers its path; refuses when a link stands between the root and it. */
  async createSessionDir(key: SessionKey): Promise<string> {
    const directory = this.sessionDir(key)
    await mkdir(directory, { recursive: true })
    if ((await realpath(directory)) !== (await this.#realPathOf(directory))) {
      throw new UnsafePathError(`${directory} is reached through a symbolic link`)
    }
    return directory
  }

  /** Removes an item with everything in it, then parents that became empty. An item that is not there is fine. */
  async removeItem(ref: FileRef): Promise<void> {
    await this.#removeTree(this.itemDir(ref))
    const kept = this.rootedServers.has(ref.serverId) ? this.sessionDir(ref) : this.sessionsDir
    await this.#pruneFrom(dirname(this.itemDir(ref)), kept)
  }

  /** Removes everything of a session, then its server's directory when that is empty. */
  async removeSession(key: SessionKey): Promise<void> {
    await this.#removeTree(this.sessionDir(key))
    await this.#pruneFrom(dirname(this.sessionDir(key)), this.sessionsDir)
  }

  /** Opens an item's file for reading. Rejects with `UnsafePathError` for links and for anything that is not a regular file. */
  async openItem(ref: FileRef, filename: string): Promise<OpenItem> {
    const path = this.itemPath(ref, filename)
    const handle = await open(path, READ_FLAGS).catch(refuseLinks)
    try {
      const stats = await this.#verify(handle.fd, path)
      return { handle, sizeBytes: stats.size, mtimeMs: stats.mtimeMs }
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** `openItem` as a raw descriptor, for one that is handed to another thread. */
  async openItemFd(ref: FileRef, filename: string): Promise<OpenItemFd> {
    const path = this.itemPath(ref, filename)
    const fd = await openFdAsync(path, READ_FLAGS).catch(refuseLinks)
    try {
      const stats = await this.#verify(fd, path)
      return { fd, sizeBytes: stats.size, mtimeMs: stats.mtimeMs }
    } catch (error) {
      await closeFdAsync(fd)
      throw error
    }
  }

  /** Creates a file that must not exist yet, below the root and through no link, for writing. The caller closes the handle. */
  async createFile(path: string): Promise<FileHandle> {
    const handle = await open(path, CREATE_FLAGS).catch(refuseLinks)
    try {
      await this.#verify(handle.fd, path)
      return handle
    } catch (error) {
      await handle.close()
      await rm(path, { force: true })
      throw error
    }
  }

  /** Removes a temporary file that a crash left in an item's directory. */
  async removeTemp(ref: FileRef, name: string): Promise<void> {
    if (isTempName(name)) await rm(this.itemPath(ref, name), { force: true })
  }

  /** Makes a complete temporary file appear under its final name: file synced, renamed, directory synced. */
  async publish(temp: string, final: string): Promise<void> {
    if (this.atomicWrites) await syncPath(temp)
    await rename(temp, final)
    if (this.atomicWrites) await syncPath(dirname(final))
  }

  /** Sessions that have a directory. Names that can't be ours are left alone. */
  listSessions(): AsyncGenerator<SessionKey> {
    return listSessions(this)
  }

  /** When a session's directory itself last changed; undefined when there is none. */
  async sessionMtimeMs(key: SessionKey): Promise<number | undefined> {
    return (await statOrUndefined(this.sessionDir(key)))?.mtimeMs
  }

  /** Items of a session as they are on disk. */
  listItems(key: SessionKey): AsyncGenerator<FoundItem> {
    return listItems(this, key)
  }

  /**
   * Checks an open descriptor, not a path: what was opened is a regular file, and it lies where it has to. Linux tells a descriptor's real path,
   * so that nothing can be swapped between check and use; elsewhere the path is resolved again and must still be the same file.
   */
  async #verify(fd: number, path: string): Promise<Stats> {
    const stats = await fstatAsync(fd)
    if (!stats.isFile()) throw new UnsafePathError(`${path} is not a regular file`)
    const expected = await this.#realPathOf(path)
    const actual = await readlink(`/proc/self/fd/${fd}`).catch(() => resolveSame(path, stats))
    if (actual !== expected) throw new UnsafePathError(`${path} is reached through a symbolic link`)
    return stats
  }

  /** Where a path below the root must really be; the root itself may be a link. */
  async #realPathOf(path: string): Promise<string> {
    return join(await realpath(this.root), path.slice(this.root.length))
  }

  /** `rm` does not follow links below what it is given; a link in the place of the directory itself is removed as a link. */
  async #removeTree(directory: string): Promise<void> {
    const parent = dirname(directory)
    const real = await realpath(parent).catch(ignoreMissing)
    if (real === undefined) return
    if (real !== (await this.#realPathOf(parent))) {
      throw new UnsafePathError(`${parent} is reached through a symbolic link`)
    }
    await rm(directory, { recursive: true, force: true, maxRetries: 2 })
  }

  /** Removes empty directories upwards, below `stop`. `rmdir` refuses one that somebody just filled. */
  async #pruneFrom(directory: string, stop: string): Promise<void> {
    let current = directory
    while (current.startsWith(stop + sep)) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- a parent is empty only after its child is gone
        await rmdir(current)
      } catch {
        return
      }
      current = dirname(current)
    }
  }
}

function refuseLinks(error: NodeJS.ErrnoException): never {
  throw openingError(error)
}

async function resolveSame(path: string, stats: Stats): Promise<string | undefined> {
  const again = await lstat(path)
  return again.ino === stats.ino && again.dev === stats.dev ? realpath(path) : undefined
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Syncs what holds the entries of new directories: the parents of `last` up to the parent of `first`, one of its ancestors or itself. */
async function syncParents(first: string, last: string): Promise<void> {
  const top = dirname(first)
  const parents = [dirname(last)]
  for (let parent = dirname(last); parent.length > top.length; parent = dirname(parent)) {
    parents.push(dirname(parent))
  }
  await Promise.all(parents.map((parent) => syncDirectory(parent)))
}

/** Through a link too: the root may be one. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
