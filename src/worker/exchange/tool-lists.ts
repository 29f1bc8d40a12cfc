/** What becomes of lists of tools on their way to clients: shaped for everybody alike, then held to what the tools of the session are pinned to. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { withoutDrifted, withWarnings } from '../catalogue/drift.ts'
import { looksAtTools, shapeTools } from '../catalogue/shape.ts'
import type { Listing, ShapedTools } from '../catalogue/shape.ts'
import type { PendingRewrite } from '../session/session.ts'
import { isObject, rpcError } from './json-rpc.ts'
import type { RequestId } from './json-rpc.ts'
import { ListWatch } from './list-watch.ts'
import { KnownAnswers } from './known-answers.ts'
import type { ListPlace, ToolGuard } from './tool-guard.ts'

const MESSAGE_MEMBERS = ['jsonrpc', 'id', 'method', 'result', 'error'] as const
const RESULT_MEMBERS = ['tools', 'nextCursor'] as const
const TOOL_MEMBERS = ['name', 'title', 'description', 'inputSchema', 'annotations'] as const

/** Tools that one line of the log names. */
const MAX_LOGGED = 20
/** Characters of a name in the log. */
const MAX_LOGGED_NAME = 128

/** See the file comment. One per worker and server. */
export class ToolLists {
  readonly guard: ToolGuard
  /** Whether the configuration has anything done to lists of tools. */
  readonly looksAtTools: boolean
  readonly #server: ServerConfig
  readonly #config: Config
  readonly #log: Log
  /** Lists as they are shaped for every session: that depends on the configuration and on what the upstream answered only. */
  readonly #known: KnownAnswers
  readonly #knownWithoutSession: KnownAnswers

  constructor(options: {
    readonly server: ServerConfig
    readonly config: Config
    readonly log: Log
    readonly guard: ToolGuard
    /** Hears whether a list was known. */
    readonly onLook?: ((isKnown: boolean) => void) | undefined
  }) {
    this.#known = new KnownAnswers(options.onLook)
    this.#knownWithoutSession = new KnownAnswers(options.onLook)
    this.guard = options.guard
    this.#server = options.server
    this.#config = options.config
    this.#log = options.log
    this.looksAtTools = looksAtTools(options.server, options.config)
  }

  /** For the answer to these requests; undefined where nothing is done with lists. */
  watch(
    requests: readonly { readonly id: RequestId; readonly method: string }[],
  ): ListWatch | undefined {
    if (!this.looksAtTools) return undefined
    return new ListWatch(requests, () =>
      this.#log.warn(
        { server: this.#server.id },
        'the upstream sent a list of tools where none was asked for, which was not passed on',
      ),
    )
  }

  /** For a list in a session. */
  rewrite(place: ListPlace): PendingRewrite {
    const { guard } = this
    const mustJudge = guard.pins || guard.blocks
    return {
      known: this.#known,
      isRequired: true,
      ...(mustJudge ? { admits: (memo) => isListing(memo) && guard.admits(memo, place) } : {}),
      rewrite: async (response, keep) => {
        const shaped = this.#shape(response, true)
        if (shaped === undefined) return response
        const { listing } = shaped
        const clean = withResult(response, shaped.result)
        keep?.(clean, listing)
        if (!mustJudge) return clean
        const drift = await guard.judge(listing, place)
        if (drift.size === 0) return clean
        const { mode, blockStrategy } = this.#server.toolDefinitionPinning
        if (mode === 'warn') return withResult(response, withWarnings(shaped.result, drift))
        if (blockStrategy === 'baseline_subset') {
          return withResult(response, withoutDrifted(shaped.result, drift))
        }
        return rpcError(await guard.changed(place.session, place.received, drift), idOf(response))
      },
      abandon: () => {},
    }
  }

  /** For a list without a session: nothing is pinned, and there is no helper, as uploads need a session. */
  statelessRewrite(): PendingRewrite | undefined {
    if (!this.looksAtTools) return undefined
    return {
      known: this.#knownWithoutSession,
      isRequired: true,
      rewrite: async (response, keep) => {
        const shaped = this.#shape(response, false)
        if (shaped === undefined) return response
        const clean = withResult(response, shaped.result)
        keep?.(clean, shaped.listing)
        return clean
      },
      abandon: () => {},
    }
  }

  #shape(response: JsonObject, hasSession: boolean): ShapedTools | undefined {
    refuseLookalikes(response, MESSAGE_MEMBERS)
    const { result } = response
    if (isObject(result)) refuseLookalikes(result, RESULT_MEMBERS)
    if (!isObject(result) || !Array.isArray(result['tools'])) return undefined
    for (const tool of result['tools']) if (isObject(tool)) refuseLookalikes(tool, TOOL_MEMBERS)
    const addHelper = hasSession && result['nextCursor'] === undefined
    const shaped = shapeTools(result, this.#server, this.#config, { addHelper })
    if (shaped.cleaned.size > 0) this.#logCleaned(shaped)
    return shaped
  }

  /** Once for each list that is not known. */
  #logCleaned({ cleaned }: ShapedTools): void {
    const { mode } = this.#server.toolMetadataSanitization
    const tools = [...cleaned].slice(0, MAX_LOGGED).map(([name, fields]) => {
      return `${name.slice(0, MAX_LOGGED_NAME)}[${fields.join(',')}]`
    })
    const details = { server: this.#server.id, count: cleaned.size, tools }
    if (mode === 'block') this.#log.warn(details, 'tools are hidden for the text in them')
    else this.#log.info(details, 'text of tools was cleaned')
  }
}

/** Some clients don't tell capitals from small letters: what we judge would not be what they read. Throws ADAPTER_UPSTREAM_INVALID. */
function refuseLookalikes(object: JsonObject, names: readonly string[]): void {
  for (const key of Object.keys(object)) {
    if (names.includes(key)) continue
    const name = names.find((one) => one.toUpperCase() === key.toUpperCase())
    if (name === undefined) continue
    throw new AdapterError(
      'ADAPTER_UPSTREAM_INVALID',
      `the upstream server's list of tools has a member that some clients take for "${name}"`,
    )
  }
}

function withResult(response: JsonObject, result: JsonObject): JsonObject {
  return response['result'] === result ? response : { ...response, result }
}

/** Only we note memos. */
function isListing(memo: unknown): memo is Listing {
  return typeof memo === 'object' && memo !== null && 'pins' in memo
}

function idOf({ id }: JsonObject): RequestId | null {
  return typeof id === 'string' || typeof id === 'number' ? id : null
}
