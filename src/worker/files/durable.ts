/**
 * Makes files and directory entries survive a crash of the machine. Not in place: syncs that run at the same time share the file system's work, which
 * is most of what they cost, and the thread has other things to do while they wait.
 */
import { closeSync, constants, fsync, openSync } from 'node:fs'
import { dirname } from 'node:path'

/** Syncs what an open file holds. */
export function syncFile(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(fd, (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
}

/** Syncs what makes items findable: the entries in their directories, and theirs in the directory of their kind. Files are synced before. */
export class ItemEntries {
  readonly #synced = new Map<string, Promise<void>>()

  /** Once for each directory, whoever asks; so an object lives no longer than the changes that were made before it. */
  async sync(itemDirectory: string): Promise<void> {
    await Promise.all([this.#sync(itemDirectory), this.#sync(dirname(itemDirectory))])
  }

  #sync(directory: string): Promise<void> {
    let synced = this.#synced.get(directory)
    if (synced === undefined) {
      synced = syncDirectory(directory)
      this.#synced.set(directory, synced)
    }
    return synced
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await syncFile(fd)
  } finally {
    closeSync(fd)
  }
}
