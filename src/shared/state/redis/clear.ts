/** Removes everything of one key base, also what no sum knows of. */
import { Redis } from 'ioredis'

import type { RedisContext } from './context.ts'
import { keyOf } from './keys.ts'
import { knownSessions } from './known-sessions.ts'
import { WIPE_ALL, WIPE_SESSION } from './repair-scripts.ts'
import { toUnavailable } from './script.ts'

/** Keys that one look goes through. */
const SCAN_COUNT = 500

export async function clear(ctx: RedisContext): Promise<void> {
  for await (const names of knownSessions(ctx)) {
    await Promise.all(
      names.map(async (name) => {
        const key = keyOf(name)
        if (key === undefined) return
        await ctx.onSession(WIPE_SESSION, key, ...ctx.invalidation(key, 'everyone'))
      }),
    )
  }
  await ctx.onAll(WIPE_ALL)
  try {
    await removeStrays(ctx)
  } catch (error) {
    throw toUnavailable(error)
  }
}

async function removeStrays({ client, keys }: RedisContext): Promise<void> {
  const servers = client instanceof Redis ? [client] : client.nodes('master')
  for (const server of servers) {
    let cursor = '0'
    do {
      const [next, found] = await server.scan(
        cursor,
        'MATCH',
        keys.sessionPattern,
        'COUNT',
        SCAN_COUNT,
      )
      cursor = next
      // One by one: in a Cluster they are in different slots.
      await Promise.all(found.map((key) => client.unlink(key)))
    } while (cursor !== '0')
  }
}
