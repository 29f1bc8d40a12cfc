/** What is on disk, for whoever compares it with the records: sessions, their items, the files of those. */
import type { Stats } from 'node:fs'
import { lstat, opendir } from 'node:fs/promises'
import { join } from 'node:path'

import { parseSessionId } from '../ids.ts'
import type { FileRef, SessionKey } from '../state/records.ts'
import type { FileLayout } from './layout.ts'

/** One item directory as found on disk. */
export interface FoundItem {
  readonly ref: FileRef
  /** The youngest modification in it, its own included. */
  readonly newestMtimeMs: number
  /** Regular files in it, temporary ones included, youngest first. */
  readonly files: readonly FoundFile[]
}

/** One regular file of an item. */
export interface FoundFile {
  readonly name: string
  readonly sizeBytes: number
  readonly mtimeMs: number
}

const KINDS = ['uploads', 'artifacts'] as const

/** Sessions that have a directory. Names that can't be ours are left alone. */
export async function* listSessions(layout: FileLayout): AsyncGenerator<SessionKey> {
  const base = layout.sessionsDir
  for await (const serverId of directoriesIn(base)) {
    for await (const name of directoriesIn(join(base, serverId))) {
      const sessionId = parseSessionId(name)
      if (sessionId !== undefined) yield { serverId, sessionId }
    }
  }
}

/** Items of a session as they are on disk. */
export async function* listItems(layout: FileLayout, key: SessionKey): AsyncGenerator<FoundItem> {
  const { serverId, sessionId } = key
  for (const kind of KINDS) {
    // oxlint-disable-next-line no-await-in-loop -- a generator answers in order
    for await (const id of directoriesIn(join(layout.sessionDir(key), kind))) {
      const found = await inspect(layout, { serverId, sessionId, kind, id })
      if (found !== undefined) yield found
    }
  }
}

/** What a path itself is; undefined when nothing is there. */
export async function statOrUndefined(path: string): Promise<Stats | undefined> {
  return lstat(path).catch(ignoreMissing)
}

/** For a `catch`: a missing file is no error. */
export function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
  throw error
}

async function inspect(layout: FileLayout, ref: FileRef): Promise<FoundItem | undefined> {
  const directory = layout.itemDir(ref)
  const own = await statOrUndefined(directory)
  if (own === undefined) return undefined
  const files: FoundFile[] = []
  let newestMtimeMs = own.mtimeMs
  for await (const name of namesIn(directory)) {
    const stats = await statOrUndefined(join(directory, name))
    if (stats === undefined) continue
    newestMtimeMs = Math.max(newestMtimeMs, stats.mtimeMs)
    if (stats.isFile()) files.push({ name, sizeBytes: stats.size, mtimeMs: stats.mtimeMs })
  }
  files.sort((a, b) => b.mtimeMs - a.mtimeMs)
  return { ref, newestMtimeMs, files }
}

/** Names in a directory, none when it is missing. `lstat` first: a link to a directory is not one of ours. */
async function* namesIn(directory: string): AsyncGenerator<string> {
  const stats = await statOrUndefined(directory)
  if (!stats?.isDirectory()) return
  const entries = await opendir(directory).catch(ignoreMissing)
  if (entries === undefined) return
  for await (const entry of entries) yield entry.name
}

async function* directoriesIn(directory: string): AsyncGenerator<string> {
  for await (const name of namesIn(directory)) {
    if ((await statOrUndefined(join(directory, name)))?.isDirectory()) yield name
  }
}
