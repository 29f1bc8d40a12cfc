/** P8, P9 and P12: one large file in, against `cp` and `sha256sum`; one out, against nginx; and the memory that either takes. */
import { rm } from 'node:fs/promises'
import { basename, join } from 'node:path'

import { cpuMs, residentBytes, watchResident } from '../support/cpu.ts'
import {
  CHUNKED_NOTE,
  fetchFile,
  hasCurl,
  hasRoom,
  mustChunk,
  sendFile,
  timeCommand,
} from '../support/file-client.ts'
import { McpClient } from '../support/mcp-client.ts'
import { SERVER_ID } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import { interleave, series } from '../support/rounds.ts'
import { median, medianRatio } from '../support/statistics.ts'
import type { Bench, Detail, Findings, Scenario } from './scenario.ts'

const MIB = 1_048_576

/** Time, and CPU of the server's process tree, of one transfer. */
interface Transfer {
  readonly seconds: number
  readonly cpuMs: number
}

/** See the file comment. */
export const largeFiles: Scenario = {
  name: 'large-files',
  rows: ['P8', 'P9', 'P12'],
  async run(bench) {
    const { fileBytes, rounds } = bench.scale
    const obstacle = (await hasCurl())
      ? (await hasRoom(bench.directory, fileBytes * (rounds + 5)))
        ? undefined
        : 'not enough room on the disk'
      : 'curl is not installed'
    if (obstacle !== undefined) {
      const rows = ['P8', 'P9', 'P12'] as const
      return { measured: rows.map((row) => ({ row, values: {}, notes: [obstacle] })), details: [] }
    }
    const replica = await bench.replica()
    const client = new McpClient(replica.target)
    try {
      const sessionId = await client.open()
      const upload = await uploads(bench, replica, client, sessionId)
      const download = await downloads(bench, replica, client, sessionId)
      return merged(bench, upload, download)
    } finally {
      await client.close()
      await replica.stop()
    }
  },
}

interface Part {
  readonly times: ReadonlyMap<string, readonly Transfer[]>
  readonly addedBytes: number
  readonly notes: readonly string[]
}

async function uploads(
  bench: Bench,
  replica: Replica,
  client: McpClient,
  sessionId: string,
): Promise<Part> {
  const { path, sha256 } = await bench.bigFile()
  const copy = join(bench.directory, 'copy.bin')
  const before = residentBytes(replica.pid)
  const newUrl = async (): Promise<string> =>
    `${await client.uploadUrl(sessionId, SERVER_ID)}&filename=big.bin&sha256=${sha256}`
  const firstWatch = watchResident(replica.pid)
  const isChunked = await mustChunk(path, await newUrl())
  let addedBytes = firstWatch.stop() - before
  const times = await interleave(['adapter', COPY], bench.scale.rounds, async (name) => {
    // What the one before left to be written must not be this one's burden.
    await timeCommand('sync', [])
    if (name === COPY) {
      const seconds =
        (await timeCommand('cp', [path, copy])) + (await timeCommand('sha256sum', [copy]))
      await rm(copy)
      return { seconds, cpuMs: NaN }
    }
    const url = await newUrl()
    const watch = watchResident(replica.pid)
    const transfer = await costOf(replica.pid, () =>
      sendFile(path, url, { isChunked, niceness: 0 }),
    )
    addedBytes = Math.max(addedBytes, watch.stop() - before)
    return transfer
  })
  return { times, addedBytes, notes: isChunked ? [CHUNKED_NOTE] : [] }
}

async function downloads(
  bench: Bench,
  replica: Replica,
  client: McpClient,
  sessionId: string,
): Promise<Part> {
  const { path } = await bench.bigFile()
  const result = await client.call(sessionId, 'copy_big', { output: 'big.bin' })
  const found = /"download_url":"([^"]+)"/.exec(JSON.stringify(result))?.[1]
  if (found === undefined) throw new Error(`no download URL in ${JSON.stringify(result)}`)
  const { pathname, search } = new URL(found)
  const url = replica.baseUrl + pathname + search
  const before = residentBytes(replica.pid)
  let addedBytes = 0
  const { nginx } = bench
  const names = nginx === undefined ? ['adapter'] : ['adapter', NGINX, NGINX_COPYING]
  const times = await interleave(names, bench.scale.rounds, async (name) => {
    if (nginx !== undefined && name !== 'adapter') {
      const base = name === NGINX ? nginx.filesUrl : nginx.filesWithoutSendfileUrl
      const fileUrl = base + basename(path)
      return costOf(nginx.pid, () => fetchFile(fileUrl, bench.scale.fileBytes))
    }
    const watch = watchResident(replica.pid)
    const transfer = await costOf(replica.pid, () => fetchFile(url, bench.scale.fileBytes))
    addedBytes = Math.max(addedBytes, watch.stop() - before)
    return transfer
  })
  return { times, addedBytes, notes: [] }
}

const COPY = 'cp, then sha256sum'
const NGINX = 'nginx (sendfile)'
const NGINX_COPYING = 'nginx (sendfile off)'

async function costOf(pid: number, transfer: () => Promise<number>): Promise<Transfer> {
  const before = cpuMs(pid)
  const seconds = await transfer()
  return { seconds, cpuMs: cpuMs(pid) - before }
}

function merged(bench: Bench, upload: Part, download: Part): Findings {
  const size = `${bench.scale.fileBytes / MIB} MiB`
  const cpu = (name: string): number[] => series(download.times, name, (each) => each.cpuMs)
  const seconds = (name: string): number[] => series(upload.times, name, (each) => each.seconds)
  const againstNginx = (name: string): number => medianRatio(cpu('adapter'), cpu(name))
  const hasNginx = download.times.has(NGINX)
  const peak = Math.max(upload.addedBytes, download.addedBytes) / MIB
  return {
    measured: [
      {
        row: 'P8',
        values: { ratio: medianRatio(seconds('adapter'), seconds(COPY)) },
        notes: [size, ...upload.notes],
      },
      {
        row: 'P9',
        values: hasNginx ? { ratio: againstNginx(NGINX) } : {},
        notes: hasNginx
          ? [
              `${size}; nginx with sendfile; ${againstNginx(NGINX_COPYING).toFixed(2)}× with sendfile off`,
            ]
          : ['nginx is not installed'],
      },
      {
        row: 'P12',
        values: { peak },
        notes: [
          `upload ${(upload.addedBytes / MIB).toFixed(0)} MiB, download ${(download.addedBytes / MIB).toFixed(0)} MiB; the first upload of a process, without warm-up`,
        ],
      },
    ],
    details: [table(`Upload of ${size} (P8)`, upload), table(`Download of ${size} (P9)`, download)],
  }
}

function table(title: string, part: Part): Detail {
  return {
    title,
    columns: ['', 'seconds (range)', 'CPU ms of the server'],
    rows: [...part.times].map(([name, transfers]) => {
      const times = transfers.map((each) => each.seconds)
      const cpu = median(transfers.map((each) => each.cpuMs))
      return [
        name,
        `${median(times).toFixed(2)} (${Math.min(...times).toFixed(2)}–${Math.max(...times).toFixed(2)})`,
        Number.isNaN(cpu) ? '' : cpu.toFixed(0),
      ]
    }),
  }
}
