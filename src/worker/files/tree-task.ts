/**
 * What the pool's threads run to see which files appeared or changed in a session's directory, whose contents are the upstream's: links are never
 * followed, and what is neither a file nor a directory is not looked at.
 */
import { lstatSync, opendirSync } from 'node:fs'
import { join } from 'node:path'

import { settleSync, type TaskOutcome } from './task-outcome.ts'

/** More entries than this are not looked at. */
export const MAX_TREE_ENTRIES = 4_096
/** Directories below this many others are not looked into. */
const MAX_DEPTH = 16
/** Names of files that are being written, by our own and by common conventions. Hidden ones count as such, whoever made them. */
const TEMPORARY = /^\.|~$|\.(?:part|partial|crdownload|download|tmp|temp)$/i

/** Where to look. Plain data: it crosses threads. */
export interface TreeOrder {
  readonly directory: string
  /** Names directly in it that are not part of it. */
  readonly without: readonly string[]
}

/** All files of a directory at one time. */
export interface Tree {
  /** Paths and versions, to compare with later; one string, because it crosses threads. */
  readonly versions: string
  readonly bytes: number
  /** False when there were too many entries: a file that is not among these may be old. */
  readonly isWhole: boolean
}

/** One file that was not there before, or not like this. */
export interface ChangedFile {
  /** Below the directory. */
  readonly path: string
  readonly sizeBytes: number
  readonly mtimeMs: number
  /** Tells this state of it from others. */
  readonly version: string
}

/** What differs from a tree before. */
export interface TreeChanges {
  /** Oldest first. */
  readonly files: readonly ChangedFile[]
  /** See `Tree`. */
  readonly isWhole: boolean
}

/** Lists a directory; one that is missing is empty. */
export function listTree(order: TreeOrder): TaskOutcome<Tree> {
  return settleSync(() => {
    const { files, isWhole } = walk(order)
    return {
      versions: files.map(({ version, path }) => `${version} ${path}`).join('\0'),
      bytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      isWhole,
    }
  })
}

/** Compares a directory with how it was: `before` is what `Tree.versions` was then. */
export function changesIn(task: {
  readonly order: TreeOrder
  readonly before: string
}): TaskOutcome<TreeChanges> {
  return settleSync(() => {
    const before = new Set(task.before.split('\0'))
    const { files, isWhole } = walk(task.order)
    const changed = files.filter(({ version, path }) => !before.has(`${version} ${path}`))
    changed.sort((a, b) => a.mtimeMs - b.mtimeMs || (a.path < b.path ? -1 : 1))
    return { files: changed, isWhole }
  })
}

function walk({ directory, without }: TreeOrder): { files: ChangedFile[]; isWhole: boolean } {
  const files: ChangedFile[] = []
  const pending = [{ path: '', depth: 0 }]
  let left = MAX_TREE_ENTRIES
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path: parent, depth } = next
    for (const name of namesIn(join(directory, parent))) {
      if (parent === '' && without.includes(name)) continue
      if (left-- === 0) return { files, isWhole: false }
      const path = parent === '' ? name : `${parent}/${name}`
      const stats = lstatSync(join(directory, path), { bigint: true, throwIfNoEntry: false })
      if (stats?.isDirectory() === true && depth < MAX_DEPTH) {
        pending.push({ path, depth: depth + 1 })
      } else if (stats?.isFile() === true && !TEMPORARY.test(name)) {
        const { ino, size, mtimeNs } = stats
        const version = `${ino}:${size}:${mtimeNs}`
        files.push({ path, sizeBytes: Number(size), mtimeMs: Number(mtimeNs) / 1e6, version })
      }
    }
  }
  return { files, isWhole: true }
}

/** One after the other: a directory may hold more names than fit into memory. */
function* namesIn(directory: string): Generator<string> {
  const opened = openOrUndefined(directory)
  if (opened === undefined) return
  try {
    for (let entry = opened.readSync(); entry !== null; entry = opened.readSync()) yield entry.name
  } finally {
    opened.closeSync()
  }
}

/** One that went, or that may not be read, holds nothing for us. */
function openOrUndefined(directory: string) {
  try {
    return opendirSync(directory)
  } catch {
    return undefined
  }
}
