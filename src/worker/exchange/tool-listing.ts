/** Asks an upstream for all tools of a session, on behalf of a client that did not, or that looks at them page by page. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { SseSplitter } from '../../shared/sse-splitter.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { shapeTools } from '../catalogue/shape.ts'
import type { Listing } from '../catalogue/shape.ts'
import { MAX_PINNED_TOOLS } from '../catalogue/tool-pin.ts'
import type { ToolPin } from '../catalogue/tool-pin.ts'
import { credentialsOf } from '../session/handshake.ts'
import type { Handshake } from '../session/handshake.ts'
import type { Session } from '../session/session.ts'
import { collectAnswer } from '../upstream/collect.ts'
import { upstreamHeaders } from '../upstream/forwarded-headers.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { isObject, parseJson } from './json-rpc.ts'
import { isEventStream } from './media-type.ts'
import { messageOf } from './sse.ts'

/** Longest wait for one page, in milliseconds. */
const PAGE_TIMEOUT_MS = 15_000
/** A list of more pages has no end. */
const MAX_PAGES = 256
const LIST_ID = 'adapter-tools-list'

const HEADERS = [
  'accept-encoding',
  'identity',
  'accept',
  'application/json, text/event-stream',
  'content-type',
  'application/json',
] as const

/** What listings are read with. */
export interface ToolListingOptions {
  readonly server: ServerConfig
  readonly config: Config
  readonly upstream: Upstream
  readonly handshake: Handshake
}

/** All pages as one. Throws `AdapterError` when the upstream does not give them: that is no list without tools. */
export async function listAllTools(
  session: Session,
  received: HeaderList,
  options: ToolListingOptions,
): Promise<Listing> {
  const { server, config } = options
  const pins = new Map<string, ToolPin>()
  const hidden = new Set<string>()
  let params: JsonObject = {}
  for (let page = 0; page < MAX_PAGES; page++) {
    // oxlint-disable-next-line no-await-in-loop -- a page names the next
    const result = await askForPage(session, received, params, options)
    const { listing } = shapeTools(result, server, config, { addHelper: false })
    for (const [name, pin] of listing.pins) pins.set(name, pin)
    for (const name of listing.hidden) hidden.add(name)
    if (pins.size > MAX_PINNED_TOOLS) break
    if (!listing.hasNext) return { pins, hidden, hasNext: false }
    params = { cursor: result['nextCursor'] }
  }
  throw notListed('it has too many')
}

async function askForPage(
  session: Session,
  received: HeaderList,
  params: JsonObject,
  options: ToolListingOptions,
): Promise<JsonObject> {
  const sentTo = session.record.upstreamSessionId
  const answer = await post(session, received, params, options)
  if (answer.status !== 404 || sentTo === null) return resultOf(answer)
  if (!(await options.handshake.reinitialise(session, received, sentTo)))
    throw notListed('it ended this session')
  return resultOf(await post(session, received, params, options))
}

interface Page {
  readonly status: number
  readonly message: unknown
}

async function post(
  session: Session,
  received: HeaderList,
  params: JsonObject,
  { server, config, upstream }: ToolListingOptions,
): Promise<Page> {
  const { record } = session
  const maxBytes = config.core.maxResponseMessageBytes
  const splitter = new SseSplitter(maxBytes)
  let found: JsonObject | undefined
  const { status, headers, body } = await collectAnswer(
    upstream,
    {
      method: 'POST',
      headers: [
        ...upstreamHeaders(credentialsOf(received), server, record.upstreamSessionId),
        ...HEADERS,
        'mcp-protocol-version',
        record.protocolVersion,
      ],
      body: Buffer.from(
        JSON.stringify({ jsonrpc: '2.0', id: LIST_ID, method: 'tools/list', params }),
      ),
      isSafe: true,
    },
    {
      timeoutMs: PAGE_TIMEOUT_MS,
      maxBytes,
      isEnough: (got, chunk) => {
        if (!isEventStream(got)) return false
        for (const event of splitter.push(chunk)) {
          const message = messageOf(event)
          if (message?.['id'] === LIST_ID && message['method'] === undefined) found ??= message
        }
        return found !== undefined
      },
    },
  )
  return { status, message: isEventStream(headers) ? found : parsed(body) }
}

function resultOf({ status, message }: Page): JsonObject {
  const result = status === 200 && isObject(message) ? message['result'] : undefined
  if (!isObject(result) || !Array.isArray(result['tools'])) throw notListed(`it answered ${status}`)
  return result
}

function parsed(body: Uint8Array): unknown {
  try {
    return parseJson(body)
  } catch {
    return undefined
  }
}

function notListed(why: string): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_INVALID',
    `the upstream server does not list its tools (${why}), so that they can't be compared with those that this session knows`,
  )
}
