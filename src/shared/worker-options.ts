/** What the primary tells a worker thread when it starts it. */
import type { MessagePort } from 'node:worker_threads'

import type { Config } from './config/config.ts'
import type { TallyMemory } from './frames/frame-tally.ts'

/** Crosses by structured clone; the ports are transferred. */
export interface WorkerOptions {
  readonly config: Config
  /** Names this process among the replicas; a new one at every start. */
  readonly replicaId: string
  /** Which of `workers` this is: it owns the sessions whose id hashes to it. */
  readonly index: number
  readonly workers: number
  /** Frames from and to the primary. */
  readonly framePort: MessagePort
  /** To the export thread; undefined where neither logs nor spans are exported. */
  readonly telemetryPort?: MessagePort | undefined
  /** To the state thread. */
  readonly storePort: MessagePort
  /** Memory of `UpstreamVitals`, which all threads share. */
  readonly vitals: SharedArrayBuffer
  /** Keys for signed URLs: the first signs, all verify. */
  readonly signingSecrets: readonly string[]
  /** Keys for requests between replicas, and between the workers of one: the first signs, all verify. */
  readonly hopSecrets: readonly string[]
  /** Where this replica is reached by others, and by its own other workers; null where nobody needs to. */
  readonly hopUrl: string | null
  /** URL prefix that clients reach this replica by when `core.public_base_url` is not set and a request has no Host. */
  readonly fallbackBaseUrl: string
  /** Whether this worker runs maintenance. */
  readonly maintains: boolean
  /** Whether this is the replica's start, not a restart of one worker: only then is state of dead processes cleared up. */
  readonly firstStart: boolean
  /** Where frames are counted; undefined while nobody wants to know. */
  readonly tallyMemory: TallyMemory | undefined
}
