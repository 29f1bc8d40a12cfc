/** What is stopped together: what clients ask, and what other replicas ask for theirs. */
import type { HopListener } from './hop-listener.ts'
import type { Listener } from './server.ts'

/** See the file comment. The hop is open until the threads have ended. */
export class JointListener {
  readonly #clients: Listener
  readonly #hop: HopListener

  constructor(clients: Listener, hop: HopListener) {
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
    await this.#hop.idle(limitMs)
    await this.#clients.idle(Math.max(0, deadlineAtMs - performance.now()), quietMs)
  }

  close(): void {
    this.#clients.close()
  }
}
