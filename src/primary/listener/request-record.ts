/** What a request was and what became of it: one line of the log for each, at level debug. Records are made only where that level is on. */
import { shortId } from '../../shared/redaction.ts'

/** How a request ended: with its whole answer, with a cut one, or without its client. */
export type RequestOutcome = 'complete' | 'cut' | 'client_gone'

/** What is known when its head has been read. */
export interface RequestFacts {
  readonly correlationId: string
  /** `mcp`, `upload`, `artifact`, `health`, `metadata` or `none`: never the path, which a client can make up. */
  readonly route: string
  /** Id of the server; undefined where the path names none. */
  readonly server: string | undefined
  readonly method: string
  /** Whole, or empty; it is shortened here. */
  readonly sessionId: string
  /** Declared length of the body; -1 when it comes in chunks. */
  readonly requestBytes: number
}

/** Fields of the line. */
export type RequestFields = Readonly<Record<string, string | number>>

/** Methods of HTTP that are named in the log; a client may make up others. */
const METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
])

/** See the file comment. */
export class RequestRecord {
  readonly #facts: RequestFacts
  readonly #write: (fields: RequestFields) => void
  readonly #startedAtMs = performance.now()
  #sessionId: string
  #rpcMethod: string | undefined
  #tool: string | undefined
  #worker: number | undefined
  #status: number | undefined
  #bytes = 0
  #outcome: RequestOutcome = 'complete'
  #isOver = false

  /** `write` is called once, when the request is over. */
  constructor(facts: RequestFacts, write: (fields: RequestFields) => void) {
    this.#facts = facts
    this.#write = write
    this.#sessionId = facts.sessionId
  }

  /** It went to a worker. */
  handedTo(worker: number): void {
    this.#worker = worker
  }

  note(rpcMethod: string, tool: string | undefined): void {
    this.#rpcMethod = rpcMethod
    this.#tool = tool
  }

  /** The answer has begun. `sessionId`: what it gives to its client. */
  answered(status: number, sessionId?: string): void {
    this.#status = status
    if (sessionId !== undefined) this.#sessionId = sessionId
  }

  /** Counts bytes of the answer's body; one to HEAD has none. */
  add(body: Uint8Array | string | number): void {
    if (this.#facts.method === 'HEAD') return
    if (typeof body === 'number') this.#bytes += body
    else this.#bytes += typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength
  }

  /** It will not end as it should. */
  fails(outcome: RequestOutcome): void {
    this.#outcome = outcome
  }

  end(): void {
    if (this.#isOver) return
    this.#isOver = true
    const { correlationId, route, server, method, requestBytes } = this.#facts
    this.#write({
      request_id: correlationId,
      route,
      method: METHODS.has(method) ? method : '_OTHER',
      ...(server === undefined ? {} : { server }),
      ...(this.#sessionId === '' ? {} : { session: shortId(this.#sessionId) }),
      ...(this.#worker === undefined ? {} : { worker: this.#worker }),
      ...(this.#rpcMethod === undefined ? {} : { rpc_method: this.#rpcMethod }),
      ...(this.#tool === undefined ? {} : { tool: this.#tool }),
      ...(this.#status === undefined ? {} : { status: this.#status }),
      duration_ms: Math.round((performance.now() - this.#startedAtMs) * 10) / 10,
      ...(requestBytes > 0 ? { request_bytes: requestBytes } : {}),
      bytes: this.#bytes,
      outcome: this.#outcome,
    })
  }
}
