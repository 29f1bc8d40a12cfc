/** Limits that span sessions on a Redis Cluster, where what is counted and what there is are on different servers. */
import t from 'tap'
import type { Test } from 'tap'

import type { SessionRecord } from '../../src/shared/state/records.ts'
import type { RedisClient } from '../../src/shared/state/redis/connection.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import { startRedisCluster } from '../support/redis.ts'
import { BareRedisStore, connect, newKeyBase } from './redis-subject.ts'
import { newSession, opened, policyWith, reserved } from './store-fixtures.ts'

t.setTimeout(600_000)

const CLIENTS = 10
/** On each client. */
const RACERS = 10
const ROUNDS = 25

let clients: readonly RedisClient[]

t.before(async () => {
  const servers = await startRedisCluster(t)
  clients = await Promise.all(Array.from({ length: CLIENTS }, () => connect(servers)))
})

t.teardown(() => {
  for (const client of clients) client.disconnect()
})

function storesWith(changes: Partial<StorePolicy>): readonly [BareRedisStore, ...BareRedisStore[]] {
  const base = { keyBase: newKeyBase(), policy: policyWith(changes), onWarning: () => undefined }
  const [first, ...rest] = clients.map((client) => new BareRedisStore({ ...base, client }))
  if (first === undefined) throw new Error('nobody races')
  return [first, ...rest]
}

/** Lets all racers of all clients try at once; answers what those got that got something. */
async function winnersOf<T>(
  stores: readonly BareRedisStore[],
  attempt: (store: BareRedisStore, index: number) => Promise<T | undefined>,
): Promise<T[]> {
  const attempts = Array.from({ length: RACERS }, (_, index) =>
    stores.map((store) => attempt(store, index)),
  )
  const outcomes = await Promise.all(attempts.flat())
  return outcomes.flatMap((outcome) => outcome ?? [])
}

async function endsAsCounted(t: Test, [judge]: readonly BareRedisStore[]): Promise<void> {
  t.strictSame(await judge?.repairCounters(null), { sessions: 0, bytes: 0 })
}

t.test('the last slot of an active session', async (t) => {
  const stores = storesWith({ maxActiveSessions: 3 })
  const [judge] = stores
  await opened(judge)
  await opened(judge)
  for (let round = 0; round < ROUNDS; round++) {
    // oxlint-disable no-await-in-loop -- one round after the other
    const winners = await winnersOf<SessionRecord>(stores, async (store) => {
      const record = newSession()
      return (await store.openSession(record)) === 'opened' ? record : undefined
    })
    t.equal(winners.length, 1, `round ${round}`)
    t.match(await judge.inventory(), { sessions: 3 })
    await Promise.all(winners.map((record) => judge.closeSession(record)))
    // oxlint-enable no-await-in-loop
  }
  await endsAsCounted(t, stores)
})

t.test('the last bytes of all, in sessions on different servers', async (t) => {
  const stores = storesWith({ maxTotalBytes: 1_000 })
  const [judge] = stores
  const sessions = await Promise.all(Array.from({ length: RACERS }, () => opened(judge)))
  await reserved(judge, sessions[0] ?? newSession(), 990)
  for (let round = 0; round < ROUNDS; round++) {
    // oxlint-disable no-await-in-loop -- one round after the other
    const bytes = round % 2 === 0 ? 10 : 3
    const winners = await winnersOf(stores, async (store, index) => {
      const session = sessions[index] ?? newSession()
      const room = await store.reserveBytes(session, bytes)
      return room.ok ? { session, id: room.reservationId } : undefined
    })
    t.equal(winners.length, Math.floor(10 / bytes), `round ${round}`)
    await Promise.all(winners.map(({ session, id }) => judge.releaseBytes(session, id)))
    t.match(await judge.inventory(), { reservedBytes: 990 })
    // oxlint-enable no-await-in-loop
  }
  await endsAsCounted(t, stores)
})
