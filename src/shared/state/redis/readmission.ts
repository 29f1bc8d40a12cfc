/** Sessions that the sums do not know though they are there: what spans sessions was lost, for example with a server of a Cluster. */
import type { SessionKey } from '../records.ts'
import { listOf, numberOf, outcomeOf, textOf } from './answers.ts'
import type { RedisContext } from './context.ts'
import { nameOf } from './keys.ts'
import { READMIT, RECOUNT_SESSION } from './repair-scripts.ts'

/**
 * Makes them known again. A session is made known before it is there and forgotten after it is gone, so one that is not known and then still there
 * was lost.
 */
export async function readmit(ctx: RedisContext, keys: readonly SessionKey[]): Promise<void> {
  await Promise.all(
    keys.map(async (key) => {
      const session = listOf(await ctx.onSession(RECOUNT_SESSION, key))
      if (outcomeOf(session) === 'none') return
      const [, state, share] = session
      await ctx.onAll(READMIT, nameOf(key), numberOf(state), textOf(share))
    }),
  )
}
