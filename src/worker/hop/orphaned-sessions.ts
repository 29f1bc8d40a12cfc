/**
 * Sessions that were given up because their replica was taken for dead. One that was only paused comes back and still has the connections, which nobody
 * else would ever end.
 */
import type { Place } from '../../shared/place.ts'

/** Most that are remembered; the oldest are forgotten first. */
const MAX_ORPHANS = 10_000

/** A session at its place, under the id that the place knows. */
export interface OrphanedSession {
  readonly place: Place
  readonly serverId: string
  readonly id: string
}

/** See the file comment. */
export class OrphanedSessions {
  /** In the order in which they were given up. */
  readonly #sessions = new Map<string, OrphanedSession>()

  note(session: OrphanedSession): void {
    const { place, serverId, id } = session
    this.#sessions.set(`${place.replicaId} ${place.worker} ${serverId} ${id}`, session)
    if (this.#sessions.size <= MAX_ORPHANS) return
    for (const oldest of this.#sessions.keys()) {
      this.#sessions.delete(oldest)
      break
    }
  }

  /** Takes those of replicas that are there again. */
  take(isThere: (replicaId: string) => boolean): readonly OrphanedSession[] {
    const taken: OrphanedSession[] = []
    for (const [key, session] of this.#sessions) {
      if (!isThere(session.place.replicaId)) continue
      this.#sessions.delete(key)
      taken.push(session)
    }
    return taken
  }
}
