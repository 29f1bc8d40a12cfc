/**
 * Sees to it that no list of tools reaches a client unjudged, as an answer that was asked for elsewhere. Clients find by its id whom a response is for,
 * wherever it comes; MCP has it come in the answer to its own request (Streamable HTTP, "Sending Messages to the Server").
 */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { isEncoded, isInOtherCharset } from './content-encoding.ts'
import type { RequestId } from './json-rpc.ts'
import { isEventStream, isJson } from './media-type.ts'
import { idKey } from './json-rpc.ts'
import { toolListScanner } from './tool-list-scanner.ts'
import type { ToolListScanner } from './tool-list-scanner.ts'

/** A request whose answer is watched. */
interface WatchedRequest {
  readonly id: RequestId
  readonly method: string
}

/** Watches one answer. */
export class ListWatch {
  readonly #requests: readonly WatchedRequest[]
  readonly #onFound: () => void

  /** Lists that answer `tools/list` are none of its business where somebody else judges them; `onFound` hears of each that it found. */
  constructor(requests: readonly WatchedRequest[], onFound: () => void) {
    this.#requests = requests
    this.#onFound = onFound
  }

  /** Scans an answer that is relayed, as each client may read it. Throws ADAPTER_UPSTREAM_INVALID for one that is encoded, or not in UTF-8. */
  scanner(headers: HeaderList): ToolListScanner {
    refuseEncoded(headers)
    const isStream = isEventStream(headers)
    const mayBeStream =
      isStream ||
      headerValue(headers, 'content-type')?.toLowerCase().includes('text/event-stream') === true
    const first = toolListScanner(this.#answered, mayBeStream)
    // In UTF-16 or UTF-32, which some clients find out by themselves, there are zeros; in JSON as it must be there are none.
    if (isJson(headers)) return { push: (chunk) => chunk.includes(0) || first.push(chunk) }
    if (isStream || !mayBeStream) return first
    const second = toolListScanner(this.#answered, false)
    return { push: (chunk) => first.push(chunk) || second.push(chunk) }
  }

  /** The same for the answer to a GET, which some clients take for a stream whatever it says of itself. */
  streamScanner(headers: HeaderList): ToolListScanner {
    refuseEncoded(headers)
    return toolListScanner(this.#answered, true)
  }

  /** Most answers need no look at it. */
  readonly #answered = (): ReadonlySet<string> => {
    const others = this.#requests.filter(({ method }) => method !== 'tools/list')
    return new Set(others.map(({ id }) => idKey(id)))
  }

  /** Throws ADAPTER_UPSTREAM_INVALID for an event, or a message, that is a list. */
  refuse(bytes: Uint8Array, isStream: boolean): void {
    if (toolListScanner(this.#answered, isStream).push(bytes)) throw this.found()
  }

  /** The error for a list that was found. */
  found(): AdapterError {
    this.#onFound()
    return new AdapterError(
      'ADAPTER_UPSTREAM_INVALID',
      'the upstream server sent a list of tools where none was asked for',
    )
  }
}

/** Nobody asked for it, and nobody here can read it. */
function refuseEncoded(headers: HeaderList): void {
  if (!isEncoded(headers) && !isInOtherCharset(headers)) return
  throw new AdapterError(
    'ADAPTER_UPSTREAM_INVALID',
    "the upstream server's answer has a content encoding or a charset other than UTF-8, and has to be looked at",
  )
}
