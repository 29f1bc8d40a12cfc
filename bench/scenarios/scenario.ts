/** What a scenario is given and what it answers. */
import type { LoadGenerator } from '../support/load.ts'
import type { Nginx } from '../support/nginx.ts'
import type { Replica, ReplicaOptions } from '../support/replica.ts'
import type { RowId } from '../targets.ts'

/** The upstream process. */
export interface UpstreamProcess {
  readonly pid: number
  /** Its MCP endpoint. */
  readonly url: string
}

/** How long and how large. */
export interface Scale {
  readonly rounds: number
  /** Seconds of load in each round. */
  readonly seconds: number
  readonly sessions: number
  readonly streams: number
  readonly fileBytes: number
  /** Seconds that sessions are left alone before their memory is read; beyond a minute the adapter drops copies that nobody uses. */
  readonly idleSeconds: number
  readonly starts: number
  /** The largest number on the growth curves. */
  readonly growth: number
}

/** Everything that the scenarios share. */
export interface Bench {
  readonly scale: Scale
  readonly upstream: UpstreamProcess
  /** Undefined when nginx is not installed. */
  readonly nginx: Nginx | undefined
  readonly load: LoadGenerator
  /** A file of `scale.fileBytes`, made on the first call, with its digest. */
  bigFile(): Promise<{ readonly path: string; readonly sha256: string }>
  /** The directory of the run's files; on the file system that is measured. */
  readonly directory: string
  /** Starts a replica with the bench's defaults; the scenario stops it. */
  replica(options?: Partial<ReplicaOptions>): Promise<Replica>
}

/** What was measured for a row. */
export interface Measured {
  readonly row: RowId
  /** By metric of the row's limits; a missing one was not measured. */
  readonly values: Readonly<Record<string, number>>
  /** What else a reader must know: deviations, absolute numbers, failures. */
  readonly notes: readonly string[]
}

/** A table of detail below the targets. */
export interface Detail {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** What a scenario answers. */
export interface Findings {
  readonly measured: readonly Measured[]
  readonly details: readonly Detail[]
}

/** One scenario. It stops what it starts, whatever happens. */
export interface Scenario {
  readonly name: string
  /** The rows it measures; `growth` is the curves, `telemetry` what collectors cost. */
  readonly rows: readonly (RowId | 'growth' | 'telemetry')[]
  run(bench: Bench): Promise<Findings>
}
