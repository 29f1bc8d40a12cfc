/** P10: how long small calls take while four large uploads run, against how long they take without. */
import {
  CHUNKED_NOTE,
  hasCurl,
  hasRoom,
  mustChunk,
  sendFile,
  timeCommand,
} from '../support/file-client.ts'
import { McpClient, PROTOCOL_VERSION, callBody, postHeaders } from '../support/mcp-client.ts'
import type { Target } from '../support/mcp-client.ts'
import { SERVER_ID } from '../support/replica.ts'
import { median } from '../support/statistics.ts'
import type { Outcome } from '../support/traffic.ts'
import type { Bench, Findings, Scenario } from './scenario.ts'

const UPLOADS = 4
const CONNECTIONS = 16
/** Far below saturation: what is looked for is waiting behind uploads, not load. */
const CALLS_PER_SECOND = 200
/** The uploading clients yield to everything else, so that what slows the calls is the adapter and not they. */
const CLIENT_NICENESS = 15

interface Windows {
  readonly adapter: readonly Outcome[]
  readonly direct: readonly Outcome[]
}

/** See the file comment. */
export const callsDuringUploads: Scenario = {
  name: 'calls-during-uploads',
  rows: ['P10'],
  async run(bench) {
    const hasSpace = await hasRoom(bench.directory, bench.scale.fileBytes * (UPLOADS + 1))
    if (!hasSpace || !(await hasCurl())) {
      return {
        measured: [{ row: 'P10', values: {}, notes: ['no curl, or no room on the disk'] }],
        details: [],
      }
    }
    const replica = await bench.replica()
    const client = new McpClient(replica.target)
    try {
      const sessionIds = await client.openMany(CONNECTIONS)
      const look = (isOver: () => boolean, least: number): Promise<Windows> =>
        watch(bench, replica.target, sessionIds, { isOver, least })
      await look(() => true, 1)
      const quiet = await look(() => true, bench.scale.rounds)
      const { path, sha256 } = await bench.bigFile()
      const urls = await Promise.all(
        Array.from({ length: UPLOADS }, () => client.uploadUrl(sessionIds[0] ?? '', SERVER_ID)),
      )
      const isChunked = await mustChunk(
        path,
        await client.uploadUrl(sessionIds[0] ?? '', SERVER_ID),
      )
      await timeCommand('sync', [])
      let isOver = false
      const startedAt = performance.now()
      const uploads = Promise.all(
        urls.map((url) =>
          sendFile(path, `${url}&filename=big.bin&sha256=${sha256}`, {
            isChunked,
            niceness: CLIENT_NICENESS,
          }),
        ),
      ).finally(() => {
        isOver = true
      })
      const [busy] = await Promise.all([look(() => isOver, 1), uploads])
      const seconds = (performance.now() - startedAt) / 1_000
      return findings(quiet, busy, [
        `${UPLOADS} × ${bench.scale.fileBytes / 1_048_576} MiB in ${seconds.toFixed(1)} s`,
        ...(isChunked ? [CHUNKED_NOTE] : []),
      ])
    } finally {
      await client.close()
      await replica.stop()
    }
  },
}

/** Windows of calls through the adapter and directly, in turn, until it is over; those that it overtook don't count. */
async function watch(
  bench: Bench,
  target: Target,
  sessionIds: readonly string[],
  until: { isOver: () => boolean; least: number },
): Promise<Windows> {
  const adapter: Outcome[] = []
  const direct: Outcome[] = []
  const turns = [
    { list: adapter, url: target.url, headers: postHeaders(target) },
    { list: direct, url: bench.upstream.url, headers: postHeaders({ url: '', headers: {} }) },
  ]
  do {
    for (const { list, url, headers } of turns) {
      // oxlint-disable-next-line no-await-in-loop -- one window at a time
      const outcome = await bench.load.run({
        kind: 'pace',
        perSecond: CALLS_PER_SECOND,
        traffic: {
          url,
          headers: { ...headers, 'mcp-protocol-version': PROTOCOL_VERSION },
          sessionIds,
          bodies: [callBody('echo', { text: 'hello' })],
          connections: CONNECTIONS,
          seconds: bench.scale.seconds,
        },
      })
      if (until.least > 1 || !until.isOver() || list.length === 0) list.push(outcome)
    }
  } while (!until.isOver() || adapter.length < until.least)
  return { adapter, direct }
}

function p50(list: readonly Outcome[]): number {
  return median(list.map((outcome) => outcome.p50Ms))
}

function p99(list: readonly Outcome[]): number {
  return median(list.map((outcome) => outcome.p99Ms))
}

function findings(quiet: Windows, busy: Windows, notes: readonly string[]): Findings {
  const failures = busy.adapter.reduce((sum, outcome) => sum + outcome.failures, 0)
  const control = p99(busy.direct) / p99(quiet.direct)
  const row = (name: string, without: readonly Outcome[], during: readonly Outcome[]): string[] => [
    name,
    ...[p50(without), p99(without), p50(during), p99(during)].map((ms) => ms.toFixed(2)),
    String(during.length),
  ]
  return {
    measured: [
      {
        row: 'P10',
        values: { ratio: p99(busy.adapter) / p99(quiet.adapter) },
        notes: [
          ...notes,
          `calls straight to the upstream, which the uploads do not touch, became ${control.toFixed(2)}× slower: the machine's share`,
          ...(failures > 0 ? [`${failures} calls failed`] : []),
        ],
      },
    ],
    details: [
      {
        title: `${CALLS_PER_SECOND} small calls per second without and with ${UPLOADS} uploads (P10)`,
        columns: ['', 'p50 ms without', 'p99 ms without', 'p50 ms with', 'p99 ms with', 'windows'],
        rows: [
          row('adapter', quiet.adapter, busy.adapter),
          row('direct', quiet.direct, busy.direct),
        ],
      },
    ],
  }
}
