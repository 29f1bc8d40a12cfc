/** A well-behaved client, busy for as long as somebody else misbehaves: whatever goes wrong for it is noted. */
import type { FileRig } from './file-rig.ts'
import { within } from './eventually.ts'

/** How it went. */
export interface NeighbourReport {
  /** Rounds that went well: a call, an upload that a tool reads, and an artifact that is downloaded. */
  readonly rounds: number
  readonly troubles: readonly string[]
}

/** No answer to an ordinary request may take so long, whatever others do. */
const LIMIT_MS = 20_000

/** Starts one with a session of its own; `stop` resolves when the round in hand is done and there was at least one whole one. */
export async function startNeighbour(
  rig: FileRig,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ stop(): Promise<NeighbourReport> }> {
  const session = await rig.openSession(headers)
  const troubles: string[] = []
  let rounds = 0
  let isStopping = false
  const run = async (): Promise<void> => {
    while (!isStopping || (rounds === 0 && troubles.length === 0)) {
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
      isStopping = true
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
