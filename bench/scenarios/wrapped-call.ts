/** P4: a call whose upload handle is resolved and whose file becomes an artifact, against one that passes through. */
import { medianRatio } from '../support/statistics.ts'
import { series } from '../support/rounds.ts'
import { callBody, inParallel, McpClient } from '../support/mcp-client.ts'
import { SERVER_ID } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import type { Contender } from '../support/measure.ts'
import { compare, comparisonTable, failureNotes, saturating } from './comparison.ts'
import type { Bench, Scenario } from './scenario.ts'

/** Fewer than elsewhere: each call waits for the disk. */
const CONNECTIONS = 32
const FILE = Buffer.alloc(4_096, 'y')

/** See the file comment. */
export const wrappedCall: Scenario = {
  name: 'wrapped-call',
  rows: ['P4'],
  async run(bench) {
    const replica = await bench.replica()
    try {
      const samples = await compare(bench, await contendersOf(bench, replica))
      const cpu = (name: string): number[] => series(samples, name, (sample) => sample.cpuUs)
      const against = (name: string): number => medianRatio(cpu(name), cpu('pass-through'))
      return {
        measured: [
          {
            row: 'P4',
            values: { ratio: against('upload and artifact') },
            notes: [
              `upload handle only ${against('upload handle').toFixed(2)}×, artifact only ${against('artifact').toFixed(2)}×`,
              ...failureNotes(samples),
            ],
          },
        ],
        details: [comparisonTable('Wrapped calls (P4)', samples)],
      }
    } finally {
      await replica.stop()
    }
  },
}

async function contendersOf(bench: Bench, replica: Replica): Promise<Record<string, Contender>> {
  const client = new McpClient(replica.target)
  try {
    const sessionIds = await client.openMany(CONNECTIONS)
    const handles = await inParallel(CONNECTIONS, 8, (index) =>
      client.upload(sessionIds[index] ?? '', SERVER_ID, FILE),
    )
    await checkWrapped(client, sessionIds[0] ?? '', handles[0] ?? '')
    const contender = (bodies: readonly string[]): Contender => ({
      pid: replica.pid,
      upstreamPid: bench.upstream.pid,
      order: saturating(bench, replica.target, sessionIds, { bodies, connections: CONNECTIONS }),
    })
    const output = 'result.txt'
    return {
      'pass-through': contender([callBody('echo', { text: 'hello' })]),
      'upload handle': contender(handles.map((input) => callBody('consume', { input }))),
      artifact: contender([callBody('produce', { output })]),
      'upload and artifact': contender(
        handles.map((input) => callBody('convert', { input, output })),
      ),
    }
  } finally {
    await client.close()
  }
}

/** A fast wrong answer must not win: the call has to come back with its artifact. */
async function checkWrapped(client: McpClient, sessionId: string, input: string): Promise<void> {
  const result = await client.call(sessionId, 'convert', { input, output: 'check.txt' })
  if (!JSON.stringify(result['content']).includes('resource_link')) {
    throw new Error(`a wrapped call answered without an artifact: ${JSON.stringify(result)}`)
  }
}
