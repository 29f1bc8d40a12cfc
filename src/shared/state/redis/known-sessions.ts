/** Walks over the sessions that are known, some at a time. */
import type { RedisContext } from './context.ts'
import { toUnavailable } from './script.ts'

/** Sessions at a time: bounds how long Redis and memory are busy with one part. */
const BATCH = 64

/** Names in parts. One that comes or goes meanwhile may be missed, and one can come twice. */
export async function* knownSessions(ctx: RedisContext): AsyncGenerator<readonly string[]> {
  let cursor = '0'
  do {
    const [next, entries] = await scanShares(ctx, cursor)
    cursor = next
    const names = entries.filter((_entry, index) => index % 2 === 0)
    for (let start = 0; start < names.length; start += BATCH) {
      yield names.slice(start, start + BATCH)
    }
  } while (cursor !== '0')
}

async function scanShares(
  ctx: RedisContext,
  cursor: string,
): Promise<readonly [cursor: string, entries: readonly string[]]> {
  try {
    return await ctx.client.hscan(`${ctx.keys.global}:shares`, cursor, 'COUNT', BATCH)
  } catch (error) {
    throw toUnavailable(error)
  }
}
