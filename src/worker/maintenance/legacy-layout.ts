/**
 * Moves files of the layout before ours, `<root>/{uploads,artifacts}/sessions/<session>/<item>/<name>`, into the present one. That layout did not
 * say which server a session was of: files move only when there is one answer.
 */
/* oxlint-disable no-await-in-loop -- runs once, before anything is served; order keeps the counts simple */
import { readdir, rename, rmdir } from 'node:fs/promises'
import type { Dirent } from 'node:fs'
import { dirname, join } from 'node:path'

import type { FileStore } from '../../shared/files/file-store.ts'
import { sanitizeFilename } from '../../shared/files/names.ts'
import { mintUploadId, parseSessionId, parseUploadId } from '../../shared/ids.ts'
import type { FileRef } from '../../shared/state/records.ts'

/** How many files were moved, and how many stayed because their server or their session is not known. */
export interface LegacyMove {
  readonly moved: number
  readonly left: number
}

/** Moves what can be moved. `serverId` null: nothing can. Never follows links, never moves hidden files. */
export async function moveLegacyFiles(
  files: FileStore,
  serverId: string | null,
): Promise<LegacyMove> {
  let moved = 0
  let left = 0
  for (const kind of ['uploads', 'artifacts'] as const) {
    const base = join(files.root, kind, 'sessions')
    for (const session of await directoryNames(base)) {
      for (const item of await directoryNames(join(base, session))) {
        const directory = join(base, session, item)
        const sessionId = parseSessionId(session)
        const name = await onlyFileIn(directory)
        if (serverId === null || sessionId === undefined || name === undefined) {
          left++
          continue
        }
        await moveItem(files, join(directory, name), {
          serverId,
          sessionId,
          kind,
          id: itemId(item),
        })
        moved++
      }
    }
  }
  return { moved, left }
}

async function moveItem(files: FileStore, from: string, ref: FileRef): Promise<void> {
  await files.createItemDir(ref)
  await rename(from, files.itemPath(ref, sanitizeFilename(from, 'file')))
  // Parents that are empty now; one that is not stays.
  for (let parent = dirname(from), level = 0; level < 2; level++, parent = dirname(parent)) {
    await rmdir(parent).catch(() => undefined)
  }
}

/** Ids of that layout are 128 bits in hex: the same bits as base64url are one of ours, the same at each try. */
function itemId(legacy: string): string {
  if (parseUploadId(legacy) !== undefined) return legacy
  return /^[0-9a-f]{32}$/i.test(legacy)
    ? Buffer.from(legacy, 'hex').toString('base64url')
    : mintUploadId()
}

async function onlyFileIn(directory: string): Promise<string | undefined> {
  const names = (await entriesOf(directory))
    .filter(
      (entry) => entry.isFile() && !entry.name.startsWith('.') && !entry.name.endsWith('.lock'),
    )
    .map((entry) => entry.name)
  return names.length === 1 ? names[0] : undefined
}

async function directoryNames(directory: string): Promise<string[]> {
  return (await entriesOf(directory))
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  return readdir(directory, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
    throw error
  })
}
