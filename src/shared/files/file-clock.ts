/** What time it is where the files are: their ages can't be told by the clock of a replica, which may differ from that of the file server. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Reads the clock of the file system that a directory is on. */
export class FileClock {
  readonly #directory: string

  /** The directory is created when it is missing. */
  constructor(directory: string) {
    this.#directory = directory
  }

  /** Unix milliseconds: when a file that is written now was written. Rejects with the error of the file system. */
  async nowMs(): Promise<number> {
    await mkdir(this.#directory, { recursive: true })
    const path = join(this.#directory, `.clock-${randomBytes(6).toString('base64url')}`)
    const handle = await open(path, 'wx', 0o600)
    try {
      await handle.write('.')
      // Only then does a network file system say when its server wrote it.
      await handle.sync()
      return (await handle.stat()).mtimeMs
    } finally {
      await handle.close()
      await rm(path, { force: true })
    }
  }
}
