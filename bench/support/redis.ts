/** A throw-away Redis without persistence. */
import { mkdir } from 'node:fs/promises'

import { startChild } from './child.ts'
import { freePort } from './free-port.ts'

/** A running Redis. */
export interface Redis {
  readonly pid: number
  readonly port: number
  stop(): Promise<void>
}

/** Starts one on a free port of 127.0.0.1; undefined when it is not installed. */
export async function startRedis(directory: string): Promise<Redis | undefined> {
  const port = await freePort()
  await mkdir(directory, { recursive: true })
  try {
    const child = await startChild({
      name: 'redis-server',
      command: 'redis-server',
      args: ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory],
      readyPattern: /Ready to accept connections/,
      readyWithinMs: 5_000,
    })
    return { pid: child.pid, port, stop: () => child.stop() }
  } catch (error) {
    if (error instanceof Error && error.message.includes('ENOENT')) return undefined
    throw error
  }
}
