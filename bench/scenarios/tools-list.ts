/** P5: `tools/list` of 185 tools, which the adapter shapes and pins, against a call that returns the same bytes untouched. */
import { medianRatio, median } from '../support/statistics.ts'
import { series } from '../support/rounds.ts'
import { callBody, McpClient, requestBody } from '../support/mcp-client.ts'
import { DEFAULT_TOOLS } from '../support/tool-list.ts'
import { compare, comparisonTable, failureNotes, saturating } from './comparison.ts'
import type { Contender } from '../support/measure.ts'
import type { Scenario } from './scenario.ts'

const CONNECTIONS = 16

/** See the file comment. */
export const toolsList: Scenario = {
  name: 'tools-list',
  rows: ['P5'],
  async run(bench) {
    const replica = await bench.replica()
    const client = new McpClient(replica.target)
    try {
      const sessionIds = await client.openMany(CONNECTIONS)
      await checkListing(client, sessionIds[0] ?? '')
      const contender = (body: string): Contender => ({
        pid: replica.pid,
        upstreamPid: bench.upstream.pid,
        order: saturating(bench, replica.target, sessionIds, {
          bodies: [body],
          connections: CONNECTIONS,
        }),
      })
      const samples = await compare(bench, {
        'pass-through': contender(callBody('listing', {})),
        'tools/list': contender(requestBody('tools/list', {})),
      })
      const cpu = (name: string): number[] => series(samples, name, (sample) => sample.cpuUs)
      const size = (name: string): string => {
        const bytes = series(samples, name, (sample) => sample.bytes / sample.requests)
        return `${(median(bytes) / 1_000).toFixed(0)} KB`
      }
      return {
        measured: [
          {
            row: 'P5',
            values: { ratio: medianRatio(cpu('tools/list'), cpu('pass-through')) },
            notes: [
              `${size('tools/list')} an answer, ${size('pass-through')} passed through`,
              ...failureNotes(samples),
            ],
          },
        ],
        details: [comparisonTable('Listing of tools (P5)', samples)],
      }
    } finally {
      await client.close()
      await replica.stop()
    }
  },
}

async function checkListing(client: McpClient, sessionId: string): Promise<void> {
  const { tools } = await client.request(sessionId, 'tools/list', {})
  const count = Array.isArray(tools) ? tools.length : 0
  if (count < DEFAULT_TOOLS) throw new Error(`tools/list answered ${count} tools`)
}
