/** P6: what an open session costs in memory when nothing happens in it. */
import { settledResidentBytes } from '../support/cpu.ts'
import { McpClient } from '../support/mcp-client.ts'
import type { Scenario } from './scenario.ts'

/** Copies of records that nobody uses are dropped by the adapter after a minute; this is a little more, in seconds. */
const FORGOTTEN_AFTER_SECONDS = 80

/** See the file comment. */
export const idleSessions: Scenario = {
  name: 'idle-sessions',
  rows: ['P6'],
  async run(bench) {
    const { sessions, settleSeconds } = bench.scale
    const replica = await bench.replica()
    const client = new McpClient(replica.target)
    try {
      // The heap grows to its working size first, so that it is not counted as sessions.
      await client.closeMany(await client.openMany(Math.ceil(sessions / 4)))
      const before = await settledResidentBytes(replica.pid, settleSeconds * 1_000)
      const startedAt = performance.now()
      await client.openMany(sessions)
      const openedInMs = performance.now() - startedAt
      const fresh = await settledResidentBytes(replica.pid, settleSeconds * 1_000)
      const waitsForIdle = settleSeconds >= FORGOTTEN_AFTER_SECONDS / 10
      if (waitsForIdle) await idle(FORGOTTEN_AFTER_SECONDS)
      const after = await settledResidentBytes(replica.pid, settleSeconds * 1_000)
      const each = (bytes: number): number => (bytes - before) / sessions / 1_000
      return {
        measured: [
          {
            row: 'P6',
            values: { each: each(after) },
            notes: [
              `${sessions} sessions, opened in ${(openedInMs / 1_000).toFixed(1)} s`,
              ...(waitsForIdle
                ? [`${each(fresh).toFixed(2)} KB just after opening; the row is after ${FORGOTTEN_AFTER_SECONDS} s`]
                : ['just after opening']),
              `${mib(before)} MiB before, ${mib(after)} MiB with them`,
            ],
          },
        ],
        details: [],
      }
    } finally {
      await client.close()
      await replica.stop()
    }
  },
}

function mib(bytes: number): string {
  return (bytes / 1_048_576).toFixed(0)
}

async function idle(seconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000))
}
