/** Several contenders under the same load, in interleaved rounds after a warm-up of each. */
import { interleave } from '../support/rounds.ts'
import { measure, SAMPLE_COLUMNS, sampleRow } from '../support/measure.ts'
import type { Contender, Sample } from '../support/measure.ts'
import { callBody, McpClient, postHeaders, PROTOCOL_VERSION } from '../support/mcp-client.ts'
import type { Target } from '../support/mcp-client.ts'
import type { Order } from '../support/traffic.ts'
import type { Bench, Detail } from './scenario.ts'

/** How many connections saturate. */
export const CONNECTIONS = 64
const ECHO = callBody('echo', { text: 'hello' })

/** Samples by contender, one a round. */
export type Samples = ReadonlyMap<string, readonly Sample[]>

/** Measures contenders against each other. */
export async function compare(
  bench: Bench,
  contenders: Readonly<Record<string, Contender>>,
): Promise<Samples> {
  const names = Object.keys(contenders)
  const run = async (name: string): Promise<Sample> => {
    const contender = contenders[name]
    if (contender === undefined) throw new RangeError(name)
    return measure(bench.load, contender)
  }
  // Compilers and pools warm up; one round that is thrown away.
  await interleave(names, 1, run)
  return interleave(names, bench.scale.rounds, run)
}

/** The table of a comparison. */
export function comparisonTable(title: string, samples: Samples): Detail {
  return {
    title,
    columns: SAMPLE_COLUMNS,
    rows: [...samples].map(([name, list]) => sampleRow(name, list)),
  }
}

/** Notes on answers that were not 2xx: numbers of a run that failed are worth nothing. */
export function failureNotes(samples: Samples): string[] {
  return [...samples].flatMap(([name, list]) => {
    const failures = list.reduce((sum, sample) => sum + sample.failures, 0)
    return failures === 0 ? [] : [`${failures} requests failed (${name})`]
  })
}

/** A saturating load of the given bodies, one session a connection. */
export function saturating(
  bench: Bench,
  target: Target,
  sessionIds: readonly string[],
  options: { bodies?: readonly string[]; connections?: number } = {},
): Extract<Order, { kind: 'saturate' }> {
  return {
    kind: 'saturate',
    traffic: {
      url: target.url,
      headers: { ...postHeaders(target), 'mcp-protocol-version': PROTOCOL_VERSION },
      sessionIds,
      bodies: options.bodies ?? [ECHO],
      connections: options.connections ?? CONNECTIONS,
      seconds: bench.scale.seconds,
    },
  }
}

/** A contender that is called with `echo` over sessions of its own. */
export async function echoContender(bench: Bench, pid: number, target: Target): Promise<Contender> {
  const client = new McpClient(target)
  try {
    const sessionIds = await client.openMany(CONNECTIONS)
    return { pid, upstreamPid: bench.upstream.pid, order: saturating(bench, target, sessionIds) }
  } finally {
    await client.close()
  }
}
