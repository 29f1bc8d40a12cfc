/**
 * Event ids of an upstream without sessions. They are unique "with that specific client" (2025-11-25, Streamable HTTP, "Resumability and Redelivery"),
 * which to the upstream is the adapter: whoever named another's would get what follows it. So clients get them signed for their session, and go on after
 * those only. Nothing is remembered: any replica can tell.
 */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import type { UrlSigner } from '../../shared/signing.ts'
import { lineEnds } from '../../shared/sse-splitter.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import { withoutHeader } from '../upstream/forwarded-headers.ts'
import type { Exchange, RequestHead } from './exchange.ts'
import { isEventStream } from './media-type.ts'
import { WrappedExchange } from './wrapped-exchange.ts'

const LF = 0x0a
const CR = 0x0d
const LETTER_I = 0x69
const NOTHING = Buffer.alloc(0)
/** Bytes of a line that is kept until its end is there: no header could bring back a longer id. */
const MAX_HELD = 8_192

const OWNED = /^([0-9a-f]{64})-(.+)$/s
/** A line that gives an id, or its beginning. An empty one takes the last back, and one with a NUL counts for nothing. */
const ID_LINE = /^(id:[ ]?)([^\0]+)$/s
const MAY_BE_ID_LINE = /^(?:i|id|id:.*)$/s

/** Whose ids are signed with what. */
export interface EventOwner {
  readonly signer: UrlSigner
  readonly key: SessionKey
}

/** An exchange with a client that gets event ids signed. Its request names an id as the upstream gave it, or none where that was not given to this session. */
export class OwnedEventIds extends WrappedExchange {
  readonly #owner: EventOwner
  #lines: IdLines | undefined

  constructor(inner: Exchange, owner: EventOwner) {
    super(inner, withGivenId(inner.request, owner))
    this.#owner = owner
  }

  override respond(status: number, headers: HeaderList, body?: Uint8Array | string): void {
    if (body === undefined || !isEventStream(headers)) {
      super.respond(status, headers, body)
      return
    }
    const lines = new IdLines(this.#owner)
    const bytes = typeof body === 'string' ? Buffer.from(body) : body
    super.respond(status, headers, Buffer.concat([lines.push(bytes), lines.rest()]))
  }

  override begin(status: number, headers: HeaderList): void {
    if (isEventStream(headers)) this.#lines = new IdLines(this.#owner)
    super.begin(status, headers)
  }

  override write(chunk: Uint8Array): boolean {
    if (this.#lines === undefined) return super.write(chunk)
    const bytes = this.#lines.push(chunk)
    return bytes.byteLength === 0 || super.write(bytes)
  }

  override end(): void {
    const rest = this.#lines?.rest() ?? NOTHING
    if (rest.byteLength > 0) super.write(rest)
    super.end()
  }
}

/** A stream in which the ids of events are replaced; every other byte stays. */
class IdLines {
  readonly #owner: EventOwner
  #held: Uint8Array = NOTHING
  #isAtStart = true

  constructor(owner: EventOwner) {
    this.#owner = owner
  }

  push(chunk: Uint8Array): Uint8Array {
    const isWhole = this.#held.byteLength === 0
    const bytes = isWhole
      ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
      : Buffer.concat([this.#held, chunk])
    this.#held = NOTHING
    if (!bytes.includes('id') && bytes.at(-1) !== LETTER_I) {
      if (bytes.byteLength > 0) this.#isAtStart = isLineEnd(bytes.at(-1))
      return bytes
    }
    const parts: Uint8Array[] = []
    const endOfLine = lineEnds(bytes)
    for (let start = 0; start < bytes.length;) {
      const end = endOfLine(start)
      const line = bytes.subarray(start, end)
      if (end === bytes.length) {
        parts.push(this.#unfinished(line))
        break
      }
      parts.push(this.#isAtStart ? this.#line(line) : line, bytes.subarray(end, end + 1))
      this.#isAtStart = true
      start = end + 1
    }
    return Buffer.concat(parts)
  }

  /** What is kept of a line whose end never came. */
  rest(): Uint8Array {
    return this.#line(Buffer.from(this.#held))
  }

  #line(line: Buffer): Uint8Array {
    const [, field, id] = ID_LINE.exec(line.toString('utf8', 0, MAX_HELD + 1)) ?? []
    if (field === undefined || id === undefined || line.byteLength > MAX_HELD) return line
    return Buffer.from(`${field}${owned(id, this.#owner)}`)
  }

  #unfinished(line: Buffer): Uint8Array {
    const isKept =
      this.#isAtStart && line.byteLength <= MAX_HELD && MAY_BE_ID_LINE.test(line.toString('latin1'))
    if (isKept) {
      this.#held = Buffer.from(line)
      return NOTHING
    }
    this.#isAtStart = false
    return line
  }
}

function withGivenId(request: RequestHead, owner: EventOwner): RequestHead {
  const named = headerValue(request.headers, 'last-event-id')
  if (named === undefined) return request
  const [, signature = '', id = ''] = OWNED.exec(named) ?? []
  const others = withoutHeader(request.headers, 'last-event-id')
  const isGiven = id !== '' && owner.signer.isSigned(fieldsOf(id, owner), signature)
  return { ...request, headers: isGiven ? [...others, 'last-event-id', id] : others }
}

function owned(id: string, owner: EventOwner): string {
  return `${owner.signer.sign(fieldsOf(id, owner))}-${id}`
}

function fieldsOf(id: string, { key }: EventOwner): readonly string[] {
  return ['mcp-event-id-v1', key.serverId, key.sessionId, id]
}

function isLineEnd(byte: number | undefined): boolean {
  return byte === LF || byte === CR
}
