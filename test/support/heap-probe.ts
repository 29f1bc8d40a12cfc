/** Asks every thread of an adapter what its heap holds after garbage collection; it must have been started with `environment`. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { eventually } from './eventually.ts'

const PRELOAD = new URL('heap-probe-preload.js', import.meta.url).href

/** What a thread writes. */
export interface HeapReport {
  readonly round: number
  /** Heap and buffers. */
  readonly bytes: number
}

/** See the file comment. */
export class HeapProbe {
  readonly #folder = mkdtempSync(join(tmpdir(), 'adapter-heap-'))
  #round = 0

  /** Variables for the process. */
  get environment(): Readonly<Record<string, string>> {
    const before = process.env['NODE_OPTIONS'] ?? ''
    return { NODE_OPTIONS: `${before} --import=${PRELOAD}`, HEAP_PROBE_FOLDER: this.#folder }
  }

  /** Of all threads, in MiB. */
  async usedMib(pid: number): Promise<number> {
    const round = ++this.#round
    process.kill(pid, 'SIGUSR2')
    let reports: readonly HeapReport[] = []
    await eventually('all threads tell what their heaps hold', () => {
      reports = readdirSync(this.#folder).map((name) => this.#read(name))
      return reports.length > 0 && reports.every((report) => report.round === round)
    })
    return reports.reduce((sum, { bytes }) => sum + bytes, 0) / 1_048_576
  }

  stop(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #read(name: string): HeapReport {
    try {
      return JSON.parse(readFileSync(join(this.#folder, name), 'utf8')) as HeapReport // of the preload
    } catch {
      // It is being written, or its thread has just ended.
      return { round: -1, bytes: 0 }
    }
  }
}
