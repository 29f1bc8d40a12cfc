/** Starts what all scenarios share: upstream, nginx, load generator. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'

import type { Bench, Scale } from '../scenarios/scenario.ts'
import { startChild } from './child.ts'
import { makeFile } from './file-client.ts'
import { LoadGenerator } from './load.ts'
import { nginxVersion, startNginx } from './nginx.ts'
import { startReplica } from './replica.ts'

/** Starts them; `close` ends them. The directory stays the caller's. */
export async function openBench(options: {
  readonly directory: string
  readonly upstreamEntry: string
  readonly scale: Scale
  readonly adapter: string | undefined
}): Promise<{ readonly bench: Bench; close(): Promise<void> }> {
  const { directory, scale } = options
  const filesDirectory = join(directory, 'files')
  const bigPath = join(filesDirectory, 'big.bin')
  await mkdir(filesDirectory)
  const upstream = await startChild({
    name: 'upstream',
    command: process.execPath,
    args: [options.upstreamEntry],
    env: { BENCH_BIG_FILE: bigPath },
    readyPattern: /upstream ready (\d+)/,
  })
  const upstreamPort = Number(upstream.ready[1])
  const url = `http://127.0.0.1:${upstreamPort}/mcp`
  const nginx =
    nginxVersion() === undefined
      ? undefined
      : await startNginx({ directory: join(directory, 'nginx'), upstreamPort, filesDirectory })
  const load = new LoadGenerator()
  let bigFile: Promise<{ path: string; sha256: string }> | undefined
  const bench: Bench = {
    scale,
    upstream: { pid: upstream.pid, url },
    nginx,
    load,
    directory,
    bigFile: () =>
      (bigFile ??= makeFile(bigPath, scale.fileBytes).then((sha256) => ({
        path: bigPath,
        sha256,
      }))),
    replica: (own) => startReplica({ directory, upstreamUrl: url, entry: options.adapter, ...own }),
  }
  const close = async (): Promise<void> => {
    await Promise.all([load.stop(), nginx?.stop(), upstream.stop()])
  }
  return { bench, close }
}
