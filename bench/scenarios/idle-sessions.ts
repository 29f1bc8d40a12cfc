/** P6: what an open session costs in memory when nothing happens in it. */
import { McpClient } from '../support/mcp-client.ts'
import type { Scenario } from './scenario.ts'

/** See the file comment. */
export const idleSessions: Scenario = {
  name: 'idle-sessions',
  rows: ['P6'],
  async run(bench) {
    const { sessions, idleSeconds } = bench.scale
    const replica = await bench.replica({ inspectable: true })
    const client = new McpClient(replica.target)
    try {
      // Pools and caches grow to their working size first, so that they are not counted as sessions.
      await client.closeMany(await client.openMany(Math.ceil(sessions / 2)))
      const before = await replica.keptBytes()
      const startedAt = performance.now()
      await client.openMany(sessions)
      const openedInSeconds = (performance.now() - startedAt) / 1_000
      const fresh = await replica.keptBytes()
      await new Promise((resolve) => setTimeout(resolve, idleSeconds * 1_000))
      const idle = idleSeconds > 0 ? await replica.keptBytes() : fresh
      const each = (bytes: number): number => (bytes - before) / sessions / 1_000
      return {
        measured: [
          {
            row: 'P6',
            values: { each: each(idle) },
            notes: [
              `${sessions} sessions, opened in ${openedInSeconds.toFixed(1)} s`,
              `just after opening ${each(fresh).toFixed(2)} KB; the row is after ${idleSeconds} idle seconds`,
              `${mib(before)} MiB before, ${mib(idle)} MiB with them, read after a collection of garbage in every thread`,
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
