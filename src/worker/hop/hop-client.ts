/** Asks the replica and worker that hold a connection for what is bound to it: one pool of connections to each replica, ended when it is. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import {
  digestOf,
  HOP_PATH,
  HopSigner,
  mintSender,
  OUTCOME_HEADER,
  PROOF_HEADER,
  SEAL_HEADER,
} from '../../shared/hop-seal.ts'
import { encodeHopRequest } from '../../shared/hop-request.ts'
import type { HopRequest } from '../../shared/hop-request.ts'
import type { Place } from '../../shared/place.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import { downstreamHeaders } from '../upstream/forwarded-headers.ts'
import { Http1Client } from '../upstream/http1/http1-client.ts'
import type { AnswerListener, UpstreamCall } from '../upstream/upstream.ts'
import { HopCall } from './hop-call.ts'
import type { HopSender, SentHop } from './hop-call.ts'
import type { HopEvents } from './hop-events.ts'
import { OrphanedSessions } from './orphaned-sessions.ts'
import type { ReplicaDirectory } from './replica-directory.ts'

/** Replicas are near each other: one that does not accept a connection for so long is in trouble. In milliseconds. */
const CONNECT_TIMEOUT_MS = 3_000

/** How long a holder may take to hear that a call was given up, before its connection is cut all the same. In milliseconds. */
const SILENCE_TIMEOUT_MS = 1_000

/** What a client is made of. */
export interface HopClientParts {
  readonly directory: ReplicaDirectory
  /** As for `HopSigner`; none where nothing is forwarded. */
  readonly secrets: readonly string[]
  /** Undefined where nobody counts. */
  readonly events?: HopEvents | undefined
}

const SESSION_HEADER = 'mcp-session-id'

interface Target {
  readonly url: string
  readonly client: Http1Client
  readonly calls: Set<HopCall>
}

/** See the file comment. One per worker. */
export class HopClient implements HopSender {
  readonly #parts: HopClientParts
  readonly #signer: HopSigner | undefined
  readonly #sender = mintSender()
  #sequence = 0
  #calls = 0
  readonly #targets = new Map<string, Target>()
  readonly #orphans = new OrphanedSessions()
  #isClosed = false

  constructor(parts: HopClientParts) {
    this.#parts = parts
    this.#signer = parts.secrets.length === 0 ? undefined : new HopSigner(parts.secrets)
    parts.directory.onChange(() => {
      this.#endGone()
      this.#endOrphans()
    })
  }

  get directory(): ReplicaDirectory {
    return this.#parts.directory
  }

  /**
   * Sends a request to who is at a place; its answer comes as it would from there. A place that is gone answers 404; one that goes while the answer is
   * waited for, or can't be reached, fails with ADAPTER_UPSTREAM_UNREACHABLE, and so does an answer that is not a replica's.
   */
  forward(
    place: Place,
    request: HopRequest,
    body: Uint8Array | string | null,
    listener: AnswerListener,
  ): UpstreamCall {
    const name = `${this.#sender}.${++this.#calls}`
    const named = request.kind === 'upstream' ? { ...request, call: name } : request
    const call = new HopCall(this, place, encodeHopRequest(named, body), listener, {
      // What is told of a request is none.
      events: request.kind === 'silence' ? undefined : this.#parts.events,
      onGone: () => {
        if (request.kind !== 'upstream') return
        const id = headerValue(request.headers, SESSION_HEADER)
        if (id !== undefined) this.#orphans.note({ place, serverId: request.serverId, id })
      },
      onSilence: (waitedMs, cut) => {
        if (request.kind === 'upstream')
          this.#tellSilence(place, { serverId: request.serverId, call: name, waitedMs }, cut)
        else cut()
      },
    })
    call.start()
    return call
  }

  send(
    { replicaId, worker }: Place,
    url: string,
    bytes: Uint8Array,
    by: HopCall,
  ): SentHop | undefined {
    const signer = this.#signer
    if (signer === undefined) return undefined
    const target = this.#targetAt(replicaId, url)
    const seal = signer.seal(replicaId, {
      worker,
      from: this.#sender,
      sequence: ++this.#sequence,
      sentAtMs: Date.now(),
      digest: digestOf(bytes),
    })
    target.calls.add(by)
    const headers: HeaderList = [SEAL_HEADER, seal, 'content-type', 'application/octet-stream']
    // Never sent again by itself: a request counts once.
    const call = target.client.call({ method: 'POST', headers, body: bytes, isSafe: false }, by)
    return { call, isProof: (proof) => signer.isProof(seal, proof) }
  }

  done(replicaId: string, call: HopCall): void {
    this.#targets.get(replicaId)?.calls.delete(call)
  }

  /** Fails what is under way with ADAPTER_STOPPING. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#targets.values()].map(({ client }) => client.close()))
    this.#targets.clear()
  }

  /** The cut alone would look like that of a client that left, and must not come first. */
  #tellSilence(
    place: Place,
    what: { readonly serverId: string; readonly call: string; readonly waitedMs: number },
    cut: () => void,
  ): void {
    if (this.#isClosed) {
      cut()
      return
    }
    const over = (): void => {
      clearTimeout(timer)
      cut()
    }
    const timer = setTimeout(() => {
      telling.abort()
      cut()
    }, SILENCE_TIMEOUT_MS)
    const telling = this.forward(place, { kind: 'silence', headers: [], ...what }, null, {
      ...NOBODY,
      end: over,
      error: over,
    })
  }

  #targetAt(replicaId: string, url: string): Target {
    const known = this.#targets.get(replicaId)
    if (known !== undefined && known.url === url) return known
    const target = {
      url,
      client: new Http1Client({
        url: new URL(HOP_PATH, url),
        staticHeaders: [],
        maxConnections: null,
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        // Replicas end at any time, and what was sent to one that had ended could not be told from what it had in hand.
        settledMs: 0,
        insecureTls: false,
        keepsHeader,
      }),
      calls: new Set<HopCall>(),
    }
    this.#targets.set(replicaId, target)
    if (known !== undefined) void known.client.close()
    return target
  }

  /** A machine that is lost closes no connection: whoever waits for it would wait for ever. */
  #endGone(): void {
    for (const [replicaId, { client, calls }] of this.#targets) {
      if (!this.#parts.directory.isGone(replicaId)) continue
      this.#targets.delete(replicaId)
      for (const call of calls) call.holderGone()
      void client.close()
    }
  }

  /** A replica that was taken for dead and is back has connections that were given up. */
  #endOrphans(): void {
    if (this.#isClosed) return
    const { directory } = this.#parts
    for (const { place, serverId, id } of this.#orphans.take((one) => directory.isThere(one))) {
      const headers = [SESSION_HEADER, id]
      const request = {
        kind: 'upstream',
        serverId,
        method: 'DELETE',
        headers,
        isSafe: true,
        isFollowUp: false,
      } as const
      this.forward(place, request, null, NOBODY)
    }
  }
}

/** Whoever ends what nobody uses needs no answer. */
const NOBODY: AnswerListener = { head: () => {}, data: () => {}, end: () => {}, error: () => {} }

function keepsHeader(name: string): boolean {
  return (
    name === PROOF_HEADER ||
    name === OUTCOME_HEADER ||
    // The holder hands it on only where it is for the client.
    name === 'www-authenticate' ||
    downstreamHeaders({ [name]: '' }).length > 0
  )
}
