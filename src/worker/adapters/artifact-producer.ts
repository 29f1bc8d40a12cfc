/** Wraps a call of a tool that makes a file: tells the tool where to write, and makes an artifact of what it wrote, named or sent. */
import { posix, win32 } from 'node:path'

import type { ArtifactProducerConfig } from '../../shared/config/config.ts'
import type { ArtifactRecord, JsonObject } from '../../shared/state/records.ts'
import type { CallContext, FinishedCall } from './adapter.ts'
import { ArtifactKeeper, type PendingArtifact } from './artifact-keeper.ts'
import { locateNamedFiles } from './artifact-locator.ts'
import { withArtifacts, withFailure, withNote } from './artifact-result.ts'
import { captureDirectory } from './directory-capture.ts'
import { DirectoryWatch } from './directory-watch.ts'
import { firstEmbeddedFile } from './embedded-content.ts'
import { asUpstreamSees } from './session-root.ts'
import { SourceArea, type OpenSource } from './source-area.ts'
import { ToolRefusal } from './tool-refusal.ts'

/** What the wrapped call is. */
export interface ProductionOptions {
  readonly adapter: ArtifactProducerConfig
  readonly toolName: string
  /** The revision that the client speaks, when known. */
  readonly protocolVersion: string | undefined
}

/** What was found of a finished call. */
interface Capture {
  readonly artifacts: ArtifactRecord[]
  isEmbedded: boolean
  refused: number
  failure: string | undefined
}

/** One wrapped call: `begin`, then either `finish` or `abandon`, once. */
export class ArtifactProduction {
  readonly #context: CallContext
  readonly #options: ProductionOptions
  readonly #keeper: ArtifactKeeper
  /** The artifact whose path the tool was given, until it is kept or dropped. */
  #pending: PendingArtifact | undefined
  /** Sees what the call makes, where it is found by that. */
  readonly #watch: DirectoryWatch | undefined
  #heartbeat: NodeJS.Timeout | undefined

  private constructor(
    context: CallContext,
    options: ProductionOptions,
    prepared: {
      keeper: ArtifactKeeper
      pending?: PendingArtifact
      watch?: DirectoryWatch
    },
  ) {
    this.#context = context
    this.#options = options
    this.#keeper = prepared.keeper
    this.#pending = prepared.pending
    this.#watch = prepared.watch
    this.#keepAlive()
  }

  /** Allocates what a call with these arguments needs; rejects with `ToolRefusal` when the session may hold no more artifacts. */
  static async begin(
    context: CallContext,
    options: ProductionOptions,
    args: JsonObject,
  ): Promise<ArtifactProduction> {
    const { adapter, toolName } = options
    const keeper = new ArtifactKeeper(context, adapter, toolName)
    const argument = adapter.outputPathArgument
    if (adapter.outputLocator.mode === 'directory' && adapter.persist) {
      const watch = await DirectoryWatch.begin(context)
      return new ArtifactProduction(context, options, { keeper, watch })
    }
    if (argument === null) return new ArtifactProduction(context, options, { keeper })
    const asked = Object.hasOwn(args, argument) ? args[argument] : undefined
    const name = typeof asked === 'string' && asked.trim() !== '' ? baseName(asked) : null
    const pending = await keeper.allocate(name)
    return new ArtifactProduction(context, options, { keeper, pending })
  }

  /** Arguments as they are sent upstream: with the path that the tool is to write to. */
  argsFor(args: JsonObject): JsonObject {
    const argument = this.#options.adapter.outputPathArgument
    const pending = this.#pending
    if (argument === null || pending === undefined) return args
    const { services, server } = this.#context
    // A computed key defines an own property, also when it is called `__proto__`.
    return { ...args, [argument]: asUpstreamSees(services.files, server, pending.path) }
  }

  /** Makes artifacts of what the tool made and adds them to its result. Never rejects: the tool ran, whatever happens here. */
  async finish(result: JsonObject): Promise<FinishedCall> {
    this.#stopHeartbeat()
    // A task still writes to its path. Nobody commits what it writes, so that the sweeper takes it.
    if (result['resultType'] === 'task') {
      this.#watch?.end()
      return { result, artifactsChanged: false }
    }
    if (isIncomplete(result) || result['isError'] === true || !this.#options.adapter.persist) {
      this.#watch?.end()
      await this.#dropPending()
      return { result, artifactsChanged: false }
    }
    const capture = await this.#capture(result)
    await this.#dropPending()
    return {
      result: await this.#answer(result, capture),
      artifactsChanged: capture.artifacts.length > 0 || this.#keeper.evictedIds.size > 0,
    }
  }

  /** Gives back what was set aside. Never rejects. */
  async abandon(): Promise<void> {
    this.#stopHeartbeat()
    this.#watch?.end()
    await this.#dropPending()
  }

  async #capture(result: JsonObject): Promise<Capture> {
    const capture: Capture = { artifacts: [], isEmbedded: false, refused: 0, failure: undefined }
    const { toolName, adapter } = this.#options
    try {
      await this.#captureInto(capture, result)
    } catch (error) {
      capture.failure =
        error instanceof ToolRefusal
          ? error.message
          : `The tool ${toolName} ran, but its file could not be kept because of a storage error of this server.`
      return capture
    }
    const { mode } = adapter.outputLocator
    if (mode === 'directory') {
      // A tool that is watched need not make any.
      if (capture.artifacts.length === 0 && capture.refused > 0)
        capture.failure = `The tool ${toolName} ran, but none of its ${capture.refused} files could be kept.`
      return capture
    }
    if (capture.artifacts.length === 0 && mode !== 'none') {
      const why = capture.refused > 0 ? ' in a place it may be taken from' : ''
      capture.failure = `The tool ${toolName} ran, but the file that it should have made was not found${why}.`
    }
    return capture
  }

  /** The first that yields a file: the path that was given, the file that the result names, a file in the result. */
  async #captureInto(capture: Capture, result: JsonObject): Promise<void> {
    const { adapter } = this.#options
    const { mode } = adapter.outputLocator
    if (this.#watch !== undefined) {
      const keep = (source: OpenSource) => this.#keepMade(source)
      await captureDirectory(
        { context: this.#context, adapter, watch: this.#watch, keep },
        result,
        capture,
      )
      return
    }
    const pending = this.#pending
    if (pending !== undefined) {
      const kept = await this.#using(pending, () => this.#keeper.keepInPlace(pending))
      if (kept !== undefined) capture.artifacts.push(kept)
      if (kept !== undefined || mode === 'none') return
    }
    await this.#captureNamed(capture, result)
    if (capture.artifacts.length > 0) return
    if (mode !== 'embedded' && pending === undefined) return
    const file = firstEmbeddedFile(result)
    if (file === undefined) return
    const target = this.#pending ?? (await this.#keeper.allocate(file.filename))
    capture.artifacts.push(await this.#using(target, () => this.#keeper.keepBytes(target, file)))
    capture.isEmbedded = true
  }

  async #captureNamed(capture: Capture, result: JsonObject): Promise<void> {
    const { mode } = this.#options.adapter.outputLocator
    if (mode !== 'structured' && mode !== 'regex') return
    const area = await SourceArea.of(this.#context, this.#pending?.directory)
    const { sources, refused } = await locateNamedFiles(this.#options.adapter, result, area)
    capture.refused = refused
    try {
      for (const source of sources) {
        // oxlint-disable-next-line no-await-in-loop -- in the order the tool named them; the quota is spent one by one
        capture.artifacts.push(await this.#keepSource(source))
      }
    } finally {
      await Promise.all(sources.map((source) => source.handle.close()))
    }
  }

  async #keepSource(source: OpenSource): Promise<ArtifactRecord> {
    const target = this.#pending ?? (await this.#keeper.allocate(source.name))
    return this.#using(target, () => this.#keeper.keepCopy(target, source))
  }

  /** A file that the tool may still have open. */
  async #keepMade(source: OpenSource): Promise<ArtifactRecord> {
    const target = await this.#keeper.allocate(source.name)
    return this.#keeper.keepCopy(target, source, true)
  }

  /** Keeping settles a pending artifact: it is committed, or dropped by the keeper. Only "nothing there" leaves it pending. */
  async #using<Kept>(pending: PendingArtifact, keep: () => Promise<Kept>): Promise<Kept> {
    this.#pending = undefined
    const kept = await keep()
    if (kept === undefined) this.#pending = pending
    return kept
  }

  async #answer(result: JsonObject, capture: Capture): Promise<JsonObject> {
    const { adapter, protocolVersion } = this.#options
    const { isEmbedded, failure } = capture
    // A later file of the same call can have taken the room of an earlier one.
    const artifacts = capture.artifacts.filter(
      ({ artifactId }) => !this.#keeper.evictedIds.has(artifactId),
    )
    const refused = capture.refused + capture.artifacts.length - artifacts.length
    let answer = result
    if (artifacts.length > 0) {
      const options = { adapter, protocolVersion, isEmbedded }
      answer = await withArtifacts(this.#context, result, artifacts, options)
      if (refused > 0) {
        answer = withNote(answer, `${refused} more of the tool's files could not be kept.`)
      }
    }
    return failure === undefined ? answer : withFailure(answer, failure)
  }

  async #dropPending(): Promise<void> {
    const pending = this.#pending
    this.#pending = undefined
    // What can't be dropped now is pending and unused, which the sweeper ends.
    if (pending !== undefined) await this.#keeper.drop(pending).catch(() => undefined)
  }

  /** A pending artifact that nobody touches is taken for abandoned, and calls can be long. */
  #keepAlive(): void {
    const pending = this.#pending
    if (pending === undefined) return
    const { config, store } = this.#context.services
    const graceMs = config.storage.orphanSweeperGraceSeconds * 1000
    const intervalMs = Math.min(60_000, Math.max(1_000, graceMs / 3))
    this.#heartbeat = setInterval(() => {
      // One that fails is followed by another.
      store.touchPending(this.#context.key, [pending.artifactId]).catch(() => undefined)
    }, intervalMs).unref()
  }

  #stopHeartbeat(): void {
    clearInterval(this.#heartbeat)
    this.#heartbeat = undefined
  }
}

/** True for a result that only says that there will be one, for example when more input is required: the retry gets a path of its own. */
function isIncomplete(result: JsonObject): boolean {
  const type = result['resultType']
  return type !== undefined && type !== 'complete'
}

/** The last component by the rules of either system; callers don't know where the tool runs. */
function baseName(path: string): string {
  return win32.basename(posix.basename(path.trim()))
}
