/** Makes artifacts of the files that one call made in its session's directory. What the upstream put there is judged when it is opened, as anything it names. */
import { isAbsolute, join, relative } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import type { ArtifactProducerConfig } from '../../shared/config/config.ts'
import type { ArtifactRecord, JsonObject } from '../../shared/state/records.ts'
import { MAX_TREE_ENTRIES, type ChangedFile } from '../files/tree-task.ts'
import type { CallContext } from './adapter.ts'
import { ChangedFileError } from './artifact-keeper.ts'
import { MAX_ARTIFACTS_PER_CALL, patternsOf, textOf } from './artifact-locator.ts'
import type { DirectoryWatch } from './directory-watch.ts'
import { pathsInText, spellings } from './path-candidates.ts'
import { SourceArea, type OpenSource } from './source-area.ts'
import { ToolRefusal } from './tool-refusal.ts'

/** Bytes of files of one call. */
const MAX_BYTES_PER_CALL = 1024 ** 3
/** How long the files of one call that are still written to are waited for, in milliseconds. */
const PATIENCE_MS = 2_000
const LOOK_INTERVAL_MS = 50

/** How the files of a call are found and kept. */
export interface DirectoryCaptureOptions {
  readonly context: CallContext
  readonly adapter: ArtifactProducerConfig
  readonly watch: DirectoryWatch
  /** Keeps a copy of one. Rejects with `ToolRefusal` when the session may not hold it. */
  readonly keep: (source: OpenSource) => Promise<ArtifactRecord>
}

/** What became of the files; `refused` of them could not be kept. */
export interface DirectoryCaptured {
  readonly artifacts: ArtifactRecord[]
  refused: number
}

/**
 * Keeps what the call made. What is kept is added to `captured` file by file, so that it is not lost when one is refused: rejects with `ToolRefusal` when
 * there is no room, or when new files can't be told from old ones.
 */
export async function captureDirectory(
  { context, adapter, watch, keep }: DirectoryCaptureOptions,
  result: JsonObject,
  captured: DirectoryCaptured,
): Promise<void> {
  const area = await SourceArea.of(context, undefined)
  const directory = context.services.files.sessionDir(context.key)
  const named = namedBelow(directory, result, area)
  const { files, isWhole } = await watch.take(named, patternsOf(adapter))
  const deadlineMs = performance.now() + PATIENCE_MS
  let bytesLeft = MAX_BYTES_PER_CALL
  for (const file of files) {
    const isWithin =
      captured.artifacts.length < MAX_ARTIFACTS_PER_CALL && file.sizeBytes <= bytesLeft
    // oxlint-disable-next-line no-await-in-loop -- one after the other: they share the quota, and the disk
    const artifact = isWithin
      ? await keepOne(directory, file, { area, keep, deadlineMs })
      : undefined
    if (artifact === undefined) captured.refused++
    else {
      captured.artifacts.push(artifact)
      bytesLeft -= artifact.sizeBytes
    }
  }
  if (!isWhole) {
    throw new ToolRefusal(
      `The tool ran, but the directory of this session holds more than ${MAX_TREE_ENTRIES} files, so that not all of its new ones could be found. Start a new session.`,
    )
  }
}

/** Undefined for one that is gone, no plain file any more, or written to all the time. */
async function keepOne(
  directory: string,
  file: ChangedFile,
  {
    area,
    keep,
    deadlineMs,
  }: {
    readonly area: SourceArea
    readonly keep: DirectoryCaptureOptions['keep']
    readonly deadlineMs: number
  },
): Promise<ArtifactRecord | undefined> {
  const source = await area.open(join(directory, file.path))
  if (source === undefined) return undefined
  try {
    const sizeBytes = await settledSize(source, file, deadlineMs)
    if (sizeBytes === undefined || sizeBytes > MAX_BYTES_PER_CALL) return undefined
    return await keep({ ...source, sizeBytes })
  } catch (error) {
    if (error instanceof ChangedFileError) return undefined
    throw error
  } finally {
    await source.handle.close()
  }
}

/** The size of a file once two looks at it see the same; the first was when it was found. */
async function settledSize(
  { handle }: OpenSource,
  found: ChangedFile,
  deadlineMs: number,
): Promise<number | undefined> {
  let { sizeBytes, mtimeMs } = found
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- a look, a wait, a look
    const stats = await handle.stat()
    const isSame = stats.size === sizeBytes && Math.abs(stats.mtimeMs - mtimeMs) < 0.001
    if (isSame) return sizeBytes
    if (performance.now() > deadlineMs) return undefined
    ;({ size: sizeBytes, mtimeMs } = stats)
    // oxlint-disable-next-line no-await-in-loop -- see above
    await delay(LOOK_INTERVAL_MS)
  }
}

/** Paths below the directory that the result's text may name. */
function namedBelow(directory: string, result: JsonObject, area: SourceArea): ReadonlySet<string> {
  const named = new Set<string>()
  for (const text of pathsInText(textOf(result))) {
    for (const path of spellings(text).flatMap((spelling) => area.resolve(spelling))) {
      const below = relative(directory, path)
      if (below !== '' && !below.startsWith('..') && !isAbsolute(below)) named.add(below)
    }
  }
  return named
}
