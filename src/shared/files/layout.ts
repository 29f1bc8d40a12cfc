/**
 * Where files live on the shared volume: `<root>/sessions/<server>/<session>/{uploads,artifacts}/<id>/<name>`, so that purging a session is one
 * directory; and what is asked of every file there, however it is opened. Pure: nothing here touches the disk.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { join, resolve, sep } from 'node:path'

import type { FileRef, SessionKey } from '../state/records.ts'

/** `atomicWrites: false` gives up every fsync: faster, and a crash of the machine may lose what was acknowledged. */
export interface FileStoreOptions {
  readonly root: string
  readonly atomicWrites: boolean
  /** Servers whose sessions keep their directory, also when nothing is in it; none by default. */
  readonly rootedServers?: ReadonlySet<string>
}

/** A path is not what it has to be: a link, not a regular file, or not inside its item's directory. */
export class UnsafePathError extends Error {
  override readonly name = 'UnsafePathError'
}

/** O_NONBLOCK: opening a FIFO that was put in an item's place must not hang. */
export const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
/** For a file that must not exist yet. */
export const CREATE_FLAGS =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

const TEMP_NAME = /^\.[A-Za-z0-9_-]{16}\.part$/

/** Whether a name is one of our temporary files; tools have their own, which are left alone. */
export function isTempName(name: string): boolean {
  return TEMP_NAME.test(name)
}

/** A fresh name for a temporary file in `directory`. */
export function tempPathIn(directory: string): string {
  return join(directory, `.${randomBytes(12).toString('base64url')}.part`)
}

/** The error of an `open` with the flags above: a link or a socket in the place of a file becomes `UnsafePathError`. */
export function openingError(error: NodeJS.ErrnoException): Error {
  if (error.code !== 'ELOOP' && error.code !== 'ENXIO') return error
  return new UnsafePathError(`${error.path ?? 'the file'} is not a regular file`, { cause: error })
}

/** See the file comment. */
export class FileLayout {
  /** Absolute; not resolved through links, because upstreams are told paths below it as the operator mounted it. */
  readonly root: string
  readonly atomicWrites: boolean
  /** Where all sessions are. */
  readonly sessionsDir: string
  /** See `FileStoreOptions`. */
  readonly rootedServers: ReadonlySet<string>

  constructor(options: FileStoreOptions) {
    this.root = resolve(options.root)
    this.atomicWrites = options.atomicWrites
    this.sessionsDir = join(this.root, 'sessions')
    this.rootedServers = options.rootedServers ?? new Set()
  }

  /** Directory of a session. Throws `UnsafePathError` when an id can't be a path component. */
  sessionDir(key: SessionKey): string {
    const { serverId, sessionId } = key
    // Not `join`, which would normalise what has nothing to be normalised, several times a call.
    return `${this.sessionsDir}${sep}${pathComponent(serverId)}${sep}${pathComponent(sessionId)}`
  }

  /** Directory of one item. */
  itemDir(ref: FileRef): string {
    return `${this.sessionDir(ref)}${sep}${ref.kind}${sep}${pathComponent(ref.id)}`
  }

  /** Path of an item's file; `filename` must have come from `sanitizeFilename`. */
  itemPath(ref: FileRef, filename: string): string {
    return `${this.itemDir(ref)}${sep}${pathComponent(filename)}`
  }
}

/** One path component as it is; anything else would leave the layout: then it throws `UnsafePathError`. */
export function pathComponent(text: string): string {
  if (text === '' || text === '.' || text === '..' || /[/\\\0]/.test(text)) {
    throw new UnsafePathError('an identifier can not be used as a path component')
  }
  return text
}
