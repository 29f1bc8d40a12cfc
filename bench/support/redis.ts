/** A throw-away Redis without persistence. */
import { mkdir } from 'node:fs/promises'

import { Redis as Client } from 'ioredis'

import { startChild } from './child.ts'
import { freePort } from './free-port.ts'

/** What a Redis has done so far. */
export interface RedisWork {
  /** Reads from clients: what leaves a client together arrives as one, so this counts round trips. */
  readonly reads: number
  /** Scripts run. */
  readonly scripts: number
}

/** A running Redis. */
export interface Redis {
  readonly pid: number
  readonly port: number
  work(): Promise<RedisWork>
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
    const client = new Client({ host: '127.0.0.1', port })
    return {
      pid: child.pid,
      port,
      work: async () => {
        const info = `${await client.info('stats')}${await client.info('commandstats')}`
        return {
          reads: Number(/total_reads_processed:(\d+)/.exec(info)?.[1] ?? Number.NaN),
          scripts: Number(/cmdstat_evalsha:calls=(\d+)/.exec(info)?.[1] ?? 0),
        }
      },
      stop: async () => {
        client.disconnect()
        await child.stop()
      },
    }
  } catch (error) {
    if (error instanceof Error && error.message.includes('ENOENT')) return undefined
    throw error
  }
}
