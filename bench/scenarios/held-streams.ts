/** P7: what a held GET stream, proxied from the client to the upstream, costs in memory. */
import { settledResidentBytes } from '../support/cpu.ts'
import { McpClient, PROTOCOL_VERSION } from '../support/mcp-client.ts'
import type { Target } from '../support/mcp-client.ts'
import type { Bench, Scenario } from './scenario.ts'

/** See the file comment. */
export const heldStreams: Scenario = {
  name: 'held-streams',
  rows: ['P7'],
  async run(bench) {
    const { streams, settleSeconds } = bench.scale
    const replica = await bench.replica()
    const client = new McpClient(replica.target)
    const settled = (): Promise<number> => settledResidentBytes(replica.pid, settleSeconds * 1_000)
    try {
      const sessionIds = await client.openMany(streams)
      await hold(bench, replica.target, sessionIds.slice(0, Math.ceil(streams / 10)))
      await bench.load.run({ kind: 'release' })
      const before = await settled()
      const opened = await hold(bench, replica.target, sessionIds)
      const after = await settled()
      const { requests: stillOpen } = await bench.load.run({ kind: 'release' })
      return {
        measured: [
          {
            row: 'P7',
            values: { each: (after - before) / opened.requests / 1_000 },
            notes: [
              `${opened.requests} streams, opened in ${opened.seconds.toFixed(1)} s; their sessions are not counted`,
              ...(opened.failures > 0 ? [`${opened.failures} streams were refused`] : []),
              ...(stillOpen < opened.requests ? [`${opened.requests - stillOpen} were lost`] : []),
            ],
          },
        ],
        details: [],
      }
    } finally {
      await bench.load.run({ kind: 'release' }).catch(() => undefined)
      await client.close()
      await replica.stop()
    }
  },
}

function hold(bench: Bench, target: Target, sessionIds: readonly string[]) {
  const headers = { ...target.headers, 'mcp-protocol-version': PROTOCOL_VERSION }
  return bench.load.run({ kind: 'hold', traffic: { url: target.url, headers, sessionIds } })
}
