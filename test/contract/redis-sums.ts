/** Compares what is counted over sessions with what the sessions themselves have, at one moment. One server only: a script sees all keys at once. */
import { setTimeout as sleep } from 'node:timers/promises'

import type { RedisClient } from '../../src/shared/state/redis/connection.ts'

/** Sums over all sessions of a key base: from the sessions, and as they are counted for the limits. */
export interface Sums {
  readonly bytes: number
  readonly countedBytes: number
  readonly active: number
  readonly countedActive: number
}

/** Arguments: pattern of session hashes. Scans in a script, which no product code may. */
const LOOK = `
local bytes, active, cursor = 0, 0, '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000, 'TYPE', 'hash')
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    if string.sub(key, -1) == '}' then
      local f = redis.call('HMGET', key, 'used', 'resv', 'st')
      bytes = bytes + tonumber(f[1]) + tonumber(f[2])
      if f[3] == '0' then
        active = active + 1
      end
    end
  end
until cursor == '0'
local f = redis.call('HMGET', KEYS[1] .. ':totals', 'used', 'resv', 'claimed')
local counted = (tonumber(f[1]) or 0) + (tonumber(f[2]) or 0) + (tonumber(f[3]) or 0)
return {bytes, counted, active, redis.call('ZCARD', KEYS[1] .. ':active')}
`

/** Sums of one key base. */
export class SumWatch {
  /** Looks at which less was counted than there was. */
  readonly undercounted: Sums[] = []
  looks = 0
  readonly #client: RedisClient
  readonly #keyBase: string

  constructor(client: RedisClient, keyBase: string) {
    this.#client = client
    this.#keyBase = keyBase
  }

  async look(): Promise<Sums> {
    const answer: unknown = await this.#client.eval(
      LOOK,
      1,
      `${this.#keyBase}:{g}`,
      `${this.#keyBase}:{s:*}`,
    )
    const list: readonly unknown[] = Array.isArray(answer) ? answer : []
    const [bytes = 0, countedBytes = 0, active = 0, countedActive = 0] = list.map(Number)
    const sums = { bytes, countedBytes, active, countedActive }
    this.looks++
    if (bytes > countedBytes || active > countedActive) this.undercounted.push(sums)
    return sums
  }

  /** Looks again and again while something goes on. */
  async during<T>(work: Promise<T>): Promise<T> {
    const state = { isOver: false }
    const done = work.finally(() => {
      state.isOver = true
    })
    while (!state.isOver) {
      // oxlint-disable-next-line no-await-in-loop -- one look after the other
      await this.look()
      // oxlint-disable-next-line no-await-in-loop -- leaves Redis to those who are watched
      await sleep(1)
    }
    return done
  }
}
