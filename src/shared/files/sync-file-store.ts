/**
 * `FileStore` for threads that may wait for the disk: one step of a call, its checks and syncs included, costs no change of threads. Never to be used
 * on an event loop that has anything else to do.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  realpathSync,
  rmSync,
  type Stats,
} from 'node:fs'
import { dirname } from 'node:path'

import {
  CREATE_FLAGS,
  openingError,
  READ_FLAGS,
  UnsafePathError,
  type FileStoreOptions,
} from './layout.ts'

/** An open descriptor that was checked; the caller closes it. */
export interface CheckedFile {
  readonly fd: number
  readonly stats: Stats
}

/** See the file comment. Paths are those that a `FileLayout` of the same root makes. Errors of the file system are thrown as they are. */
export class SyncFileStore {
  readonly atomicWrites: boolean
  readonly #root: string
  /** The real path of the root when it was last resolved: a check that fails by it is made again with a fresh one. */
  #realRoot: string | undefined

  /** `root` is absolute. */
  constructor({ root, atomicWrites }: FileStoreOptions) {
    this.#root = root
    this.atomicWrites = atomicWrites
  }

  /**
   * Makes an item's directory; refuses when a link stands anywhere between the root and it. Parents that had to be made are there for good when
   * writes are atomic; the item itself is not yet.
   */
  createItem(directory: string): void {
    const firstCreated = makeDirectory(directory)
    if (!this.#isAt(realpathSync.native(directory), directory)) {
      throw new UnsafePathError(`${directory} is reached through a symbolic link`)
    }
    if (this.atomicWrites && firstCreated !== undefined) {
      for (
        let made = dirname(directory);
        made.length >= firstCreated.length;
        made = dirname(made)
      ) {
        syncDirectory(dirname(made))
      }
    }
  }

  /** Opens a file below the root for reading; undefined for a directory. Throws `UnsafePathError` for links and what else is not a regular file. */
  openFile(path: string): CheckedFile | undefined {
    const fd = openChecked(path, READ_FLAGS)
    let isKept = false
    try {
      const stats = fstatSync(fd)
      if (stats.isDirectory()) return undefined
      if (!stats.isFile()) throw new UnsafePathError(`${path} is not a regular file`)
      this.#mustBeAt(fd, path, stats)
      isKept = true
      return { fd, stats }
    } finally {
      if (!isKept) closeSync(fd)
    }
  }

  /** Creates a file that must not exist yet, below the root and through no link, for writing; answers the descriptor, which the caller closes. */
  createFile(path: string): number {
    const fd = openChecked(path, CREATE_FLAGS)
    try {
      this.#mustBeAt(fd, path, fstatSync(fd))
      return fd
    } catch (error) {
      closeSync(fd)
      rmSync(path, { force: true })
      throw error
    }
  }

  #mustBeAt(fd: number, path: string, stats: Stats): void {
    if (this.#isAt(realPathOfOpen(fd, path, stats), path)) return
    throw new UnsafePathError(`${path} is reached through a symbolic link`)
  }

  /** Whether `real` is where a path below the root must really be; the root itself may be a link, which can be pointed elsewhere. */
  #isAt(real: string | undefined, path: string): boolean {
    if (real === undefined) return false
    const below = path.slice(this.#root.length)
    if (this.#realRoot !== undefined && real === this.#realRoot + below) return true
    this.#realRoot = realpathSync.native(this.#root)
    return real === this.#realRoot + below
  }
}

/** Makes a directory with the parents that it lacks; answers the first of those that was made, undefined when there were all. */
function makeDirectory(directory: string): string | undefined {
  try {
    mkdirSync(directory)
    return undefined
  } catch (error) {
    if (!isMissingOrThere(error)) throw error
  }
  const firstCreated = mkdirSync(directory, { recursive: true })
  return firstCreated === directory ? undefined : firstCreated
}

function isMissingOrThere(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === 'ENOENT' || error.code === 'EEXIST')
  )
}

function openChecked(path: string, flags: number): number {
  try {
    return openSync(path, flags)
  } catch (error) {
    throw error instanceof Error ? openingError(error) : error
  }
}

/** Linux tells an open file's real path; elsewhere the path is resolved again and must still be the same file. */
function realPathOfOpen(fd: number, path: string, stats: Stats): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    const again = lstatSync(path)
    return again.ino === stats.ino && again.dev === stats.dev
      ? realpathSync.native(path)
      : undefined
  }
}

/** Through a link too: the root may be one. */
function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
