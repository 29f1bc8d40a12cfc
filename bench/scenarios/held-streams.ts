/** P7: what a held GET stream, proxied from the client to the upstream, costs in memory. */
import { openDescriptors } from '../support/cpu.ts'
import { McpClient, PROTOCOL_VERSION } from '../support/mcp-client.ts'
import type { Target } from '../support/mcp-client.ts'
import type { Bench, Scenario } from './scenario.ts'

/** Longer than upstream connections outlive the streams on them, in milliseconds. */
const LINGER_MS = 6_000

/** See the file comment. */
export const heldStreams: Scenario = {
  name: 'held-streams',
  rows: ['P7'],
  async run(bench) {
    const { streams } = bench.scale
    const replica = await bench.replica({ inspectable: true })
    const client = new McpClient(replica.target)
    try {
      const sessionIds = await client.openMany(streams)
      await hold(bench, replica.target, sessionIds.slice(0, Math.ceil(streams / 10)))
      await bench.load.run({ kind: 'release' })
      // The adapter keeps an upstream's stream for a while when its client is gone.
      await new Promise((resolve) => setTimeout(resolve, LINGER_MS))
      const before = await replica.keptBytes()
      const unproxied = openDescriptors(bench.upstream.pid)
      const opened = await hold(bench, replica.target, sessionIds)
      const proxied = openDescriptors(bench.upstream.pid) - unproxied
      const after = await replica.keptBytes()
      const { requests: stillOpen } = await bench.load.run({ kind: 'release' })
      return {
        measured: [
          {
            row: 'P7',
            values: { each: (after - before) / opened.requests / 1_000 },
            notes: [
              `${opened.requests} streams, opened in ${opened.seconds.toFixed(1)} s; their sessions are not counted`,
              'read after a collection of garbage in every thread',
              ...(proxied < opened.requests
                ? [`only ${proxied} of them reached the upstream`]
                : []),
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
