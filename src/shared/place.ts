/** Where something is that is bound to a connection: the replica and the worker that hold it. Its id begins with that. */

/** A worker of a replica, of this life of the process. */
export interface Place {
  readonly replicaId: string
  readonly worker: number
}

/** An id with the place where it means something. */
export interface PlacedId {
  readonly place: Place
  /** As whoever minted it knows it. */
  readonly id: string
}

/** What is behind the second mark is any text that may be a session id of MCP: visible ASCII. */
const PLACED_ID = /^([A-Za-z0-9_-]{1,64})~(\d{1,4})~([\x21-\x7e]{1,1024})$/

/** The id as everybody else knows it. */
export function formatPlacedId({ place, id }: PlacedId): string {
  return `${place.replicaId}~${place.worker}~${id}`
}

/** The reverse; undefined for a text that names no place. */
export function parsePlacedId(text: string): PlacedId | undefined {
  const [, replicaId, worker, id] = PLACED_ID.exec(text) ?? []
  if (replicaId === undefined || worker === undefined || id === undefined) return undefined
  return { place: { replicaId, worker: Number(worker) }, id }
}
