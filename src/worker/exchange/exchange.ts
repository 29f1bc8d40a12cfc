/** One client request as the worker sees it: where its body comes from and where its answer goes. Endpoints use this and know nothing of frames. */
import type { AdapterError } from '../../shared/errors.ts'
import type { HeaderList, RouteKind } from '../../shared/frames/frames.ts'

/** The request line, headers and, for JSON-RPC routes, the whole body. */
export interface RequestHead {
  readonly route: RouteKind
  /** Index into `config.servers`, or -1 when the path names no configured server. */
  readonly serverIndex: number
  readonly method: string
  /** Path and query as received. */
  readonly target: string
  readonly headers: HeaderList
  /** Present when the primary sent the body whole; a string holds ASCII only. */
  readonly body: Uint8Array | string | null
  /** Who asks; empty while authentication is off, and where a signed URL decides. */
  readonly principal: string
  /** What the client's answer carries as `X-Request-Id`; absent where no client asked. */
  readonly correlationId?: string
}

/** Receives a streamed request body. */
export interface BodyListener {
  /** `chunk` is the listener's to keep and owns its whole buffer, so that it may be transferred. */
  data(chunk: Uint8Array): void
  end(): void
}

/**
 * A client exchange. After `end`, `respond`, `sendFile`, `reset` or an abort, further calls do nothing. The abort listener is called at most once,
 * when the client went away before the answer was complete, and no body callback follows it.
 */
export interface Exchange {
  readonly request: RequestHead
  readonly isOpen: boolean
  /** Says, for the log, what is asked for: before the answer. Absent where nobody logs it. */
  note?(method: string, tool: string | undefined): void
  /** Starts delivery of the request's body; chunks that came before are delivered at once. */
  readBody(listener: BodyListener): void
  /** Stops reading from the client until `resumeBody`; a bounded amount that is under way still arrives. */
  pauseBody(): void
  resumeBody(): void
  onAbort(listener: () => void): void
  /** Told of an error that this is answered with by us, for those who count; absent where nobody does. */
  readonly noteRefusal?: ((error: AdapterError) => void) | undefined
  /** Sends a whole answer. */
  respond(status: number, headers: HeaderList, body?: Uint8Array | string): void
  /** Sends status and headers of a streamed answer. */
  begin(status: number, headers: HeaderList): void
  /** Sends a piece; false means: wait for the drain listener before sending more. */
  write(chunk: Uint8Array): boolean
  onDrain(listener: () => void): void
  end(): void
  /** Cuts the connection: the client must see that the answer is incomplete. */
  reset(): void
  /** Answers with `length` bytes of an open file from `start`; takes over `fd`, also when the client is gone. */
  sendFile(
    status: number,
    headers: HeaderList,
    file: { fd: number; start: number; length: number; headOnly: boolean },
  ): void
}
