/**
 * The lock as a directory on the shared volume. In it is one file for each time that somebody took the lock, named by its token; the highest token has
 * the lock, for as long as its owner goes on writing to it.
 *
 * Two can't have it: a token is taken by creating its file, which only one can do, and only when the file of the token before is older, by the clock of
 * the file system, than a lease that its owner must renew in time. An owner that was late does not renew but takes the next token as everybody else.
 * The highest file is never removed, so one who created a lower file by mistake, having looked long ago, sees that there is a higher one.
 */
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

import { FileClock } from '../../shared/files/file-clock.ts'
import type { LockKeeper } from './maintenance-lock.ts'

/** Where and for whom. */
export interface FileLockOptions {
  /** Created when it is missing. */
  readonly directory: string
  /** Only told to people who look at the file. */
  readonly owner: string
  readonly leaseMs: number
  /** The clock of the file system that the directory is on; by default read there. */
  readonly fileClock?: { nowMs(): Promise<number> }
}

interface Claim {
  readonly token: number
  readonly isReleased: boolean
  readonly name: string
}

const NAME = /^([1-9]\d{0,14})(\.released)?$/

/** See the file comment. Errors of the file system are passed on as they are. */
export class FileLock implements LockKeeper {
  readonly isFencing = false
  readonly leaseMs: number
  readonly #directory: string
  readonly #owner: string
  readonly #clock: { nowMs(): Promise<number> }

  constructor({ directory, owner, leaseMs, fileClock }: FileLockOptions) {
    this.leaseMs = leaseMs
    this.#directory = directory
    this.#owner = owner
    this.#clock = fileClock ?? new FileClock(directory)
  }

  claim(held: number | null): Promise<number | null> {
    return held === null ? this.#take() : this.#renew(held)
  }

  async resign(token: number): Promise<void> {
    const path = this.#pathOf(token)
    await rename(path, `${path}.released`).catch(ignoreMissing)
  }

  async #take(): Promise<number | null> {
    await mkdir(this.#directory, { recursive: true })
    const newest = await this.#newest()
    if (newest !== undefined && !newest.isReleased && !(await this.#isStale(newest))) return null
    const token = (newest?.token ?? 0) + 1
    if (!(await this.#create(token))) return null
    if (await this.#wasTakenBefore(token)) {
      await rm(this.#pathOf(token), { force: true })
      return null
    }
    await this.#removeBefore(token)
    return token
  }

  async #renew(token: number): Promise<number | null> {
    const handle = await open(this.#pathOf(token), 'r+').catch(ignoreMissing)
    if (handle === undefined) return null
    try {
      await handle.write(this.#content(token), 0)
    } finally {
      await handle.close()
    }
    return (await this.#wasTakenBefore(token)) ? null : token
  }

  /** The clock first: a renewal that comes while this looks makes the file only younger. */
  async #isStale({ name }: Claim): Promise<boolean> {
    const nowMs = await this.#clock.nowMs()
    // Opened, because a network file system answers `stat` from memory.
    const handle = await open(join(this.#directory, name), 'r').catch(ignoreMissing)
    if (handle === undefined) return false
    try {
      return nowMs - (await handle.stat()).mtimeMs > this.leaseMs
    } finally {
      await handle.close()
    }
  }

  /** Whether a token that could be created had been taken, and left, while this one was looking. */
  async #wasTakenBefore(token: number): Promise<boolean> {
    return (await this.#claims()).some(
      (claim) => claim.token > token || (claim.token === token && claim.isReleased),
    )
  }

  /** False when somebody was faster. */
  async #create(token: number): Promise<boolean> {
    const handle = await open(this.#pathOf(token), 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') return undefined
      throw error
    })
    if (handle === undefined) return false
    try {
      await handle.write(this.#content(token), 0)
    } finally {
      await handle.close()
    }
    return true
  }

  async #newest(): Promise<Claim | undefined> {
    const claims = await this.#claims()
    return claims.reduce<Claim | undefined>(
      (newest, claim) => (newest === undefined || claim.token > newest.token ? claim : newest),
      undefined,
    )
  }

  async #claims(): Promise<Claim[]> {
    return (await readdir(this.#directory)).flatMap((name) => {
      const [, digits, released] = NAME.exec(name) ?? []
      if (digits === undefined) return []
      return [{ token: Number(digits), isReleased: released !== undefined, name }]
    })
  }

  async #removeBefore(token: number): Promise<void> {
    const old = (await this.#claims()).filter((claim) => claim.token < token)
    await Promise.all(old.map(({ name }) => rm(join(this.#directory, name), { force: true })))
  }

  #pathOf(token: number): string {
    return join(this.#directory, String(token))
  }

  /** Fixed-length for one owner, so that writing it again leaves nothing of the last one. */
  #content(token: number): string {
    const renewedAt = new Date().toISOString()
    const owner = { owner: this.#owner, host: hostname(), pid: process.pid, token, renewedAt }
    return `${JSON.stringify(owner)}\n`
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined
  throw error
}
