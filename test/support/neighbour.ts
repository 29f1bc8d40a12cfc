/** A well-behaved client, busy for as long as somebody else misbehaves: whatever goes wrong for it is noted. */
import type { Test } from 'tap'

import type { FileRig } from './file-rig.ts'
import { within } from './eventually.ts'
import { watchMemory } from './process-stats.ts'

/** How it went. */
interface NeighbourReport {
  /** Rounds that went well: a call, an upload that a tool reads, and an artifact that is downloaded. */
  readonly rounds: number
  readonly troubles: readonly string[]
}

/** No answer to an ordinary request may take so long, whatever others do. */
const LIMIT_MS = 20_000

/** Runs `misbehave` as a test beside a client of the same worker, which must not notice, and within bounded growth of memory. */
export function beside(
  t: Test,
  rig: FileRig,
  title: string,
  maxGrowthMib: number,
  misbehave: (t: Test) => Promise<void>,
): void {
  void t.test(`${title}; the neighbour notices nothing`, async (t) => {
    const neighbour = await startNeighbour(rig)
    const memory = watchMemory(rig.replica.pid)
    try {
      await misbehave(t)
    } finally {
      const { rounds, troubles } = await neighbour.stop()
      t.same(troubles, [], 'the neighbour got all that it asked for')
      t.ok(rounds > 0)
      const grownMib = memory.stop()
      t.ok(grownMib < maxGrowthMib, `memory grew by ${grownMib.toFixed(0)} MiB`)
    }
    t.equal((await fetch(`${rig.url}/healthz`)).status, 200)
  })
}

/** Starts one with a session of its own; `stop` resolves when the round in hand is done and there was at least one whole one. */
async function startNeighbour(rig: FileRig): Promise<{ stop(): Promise<NeighbourReport> }> {
  const session = await rig.openSession()
  const troubles: string[] = []
  let rounds = 0
  const stopping = new AbortController()
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted || (rounds === 0 && troubles.length === 0)) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- one client, one thing after the other
        await within('a round of the neighbour', oneRound(rig, session, rounds), LIMIT_MS)
        rounds++
      } catch (error) {
        troubles.push(String(error))
        if (troubles.length > 10) return
      }
    }
  }
  const done = run()
  return {
    async stop() {
      stopping.abort()
      await done
      return { rounds, troubles }
    },
  }
}

async function oneRound(rig: FileRig, session: string, round: number): Promise<void> {
  const text = `round ${round}`
  const echoed = await rig.call(session, 'echo', { text })
  if (!echoed.text.includes(text)) throw new Error(`echo: ${echoed.status} ${echoed.text}`)
  const handle = await rig.upload(session, text)
  const read = await rig.call(session, 'read_file', { path: handle })
  if (!read.text.includes('sha256')) throw new Error(`read_file: ${read.status} ${read.text}`)
  const report = await rig.call(session, 'write_report', { filename: 'n.txt', content: text })
  const url = /"download_url":"([^"]+)"/.exec(report.text)?.[1]
  if (url === undefined) throw new Error(`write_report: ${report.status} ${report.text}`)
  const answer = await fetch(url)
  const got = await answer.text()
  if (got !== text) throw new Error(`download: ${answer.status} ${got}`)
}
