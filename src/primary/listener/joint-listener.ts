/** What is stopped together: what clients ask, and what other replicas ask for theirs. */
import type { HopListener } from './hop-listener.ts'
import type { Listener } from './server.ts'

type ClientsPart = Pick<Listener, 'inFlight' | 'drain' | 'stopListening' | 'idle' | 'close'>
type HopPart = Pick<HopListener, 'inFlight' | 'idle'>

/** See the file comment. The hop is open until the threads have ended. */
export class JointListener {
  readonly #clients: ClientsPart
  readonly #hop: HopPart

  constructor(clients: ClientsPart, hop: HopPart) {
    this.#clients = clients
    this.#hop = hop
  }

  get inFlight(): number {
    return this.#clients.inFlight + this.#hop.inFlight
  }

  drain(): void {
    this.#clients.drain()
  }

  stopListening(): void {
    this.#clients.stopListening()
  }

  /** As of `Listener`; the end of the wait is that of the clients', so that their connections may be closed in its turn. */
  async idle(limitMs: number, quietMs: number): Promise<void> {
    const deadlineAtMs = performance.now() + limitMs
    const leftMs = (): number => Math.max(0, deadlineAtMs - performance.now())
    do {
      // oxlint-disable-next-line no-await-in-loop -- one is waited for, then the other, until neither has anything in hand
      await this.#hop.idle(leftMs())
      // oxlint-disable-next-line no-await-in-loop -- see above
      await this.#clients.idle(leftMs(), quietMs)
      // Other replicas go on asking while clients are waited for.
    } while (this.#hop.inFlight > 0 && leftMs() > 0)
  }

  close(): void {
    this.#clients.close()
  }
}
