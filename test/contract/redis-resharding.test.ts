/** A Cluster whose slots are moved while it is used: a script is executed whole or not at all, and waits for the slot to settle. */
import { Redis } from 'ioredis'
import t from 'tap'

import type { RedisServer } from '../support/redis.ts'
import { startRedisCluster } from '../support/redis.ts'
import { newKeyBase, openRedisStore } from './redis-subject.ts'
import { newArtifact, newUpload, opened, policyWith, reserved } from './store-fixtures.ts'

t.setTimeout(600_000)

/** A slot on its way from one server to another, with no key moved yet. */
interface Move {
  /** Calls it off. */
  end(): Promise<void>
}

async function beginMove(servers: readonly RedisServer[], slot: number): Promise<Move> {
  const clients = servers.map(({ port }) => new Redis(port, '127.0.0.1'))
  const counts = await Promise.all(clients.map((client) => client.cluster('COUNTKEYSINSLOT', slot)))
  const from = clients[counts.findIndex((count) => count > 0)]
  const to = clients.find((client) => client !== from)
  if (from === undefined || to === undefined) throw new Error('no server has keys in this slot')
  await to.cluster('SETSLOT', slot, 'IMPORTING', await from.cluster('MYID'))
  await from.cluster('SETSLOT', slot, 'MIGRATING', await to.cluster('MYID'))
  return {
    async end() {
      await to.cluster('SETSLOT', slot, 'STABLE')
      await from.cluster('SETSLOT', slot, 'STABLE')
      for (const client of clients) client.disconnect()
    },
  }
}

t.test('what is asked while a slot moves is done when it has settled', async (t) => {
  const servers = await startRedisCluster(t)
  const keyBase = newKeyBase()
  const store = await openRedisStore(t, servers, policyWith({ maxTotalBytes: 100 }), { keyBase })
  const session = await opened(store)
  const { reservationId } = await reserved(store, session, 60)
  const name = `${keyBase}:{s:${session.serverId}:${session.sessionId}}`
  const [first] = servers
  const asking = new Redis(first?.port ?? 0, '127.0.0.1')
  const slots = await Promise.all(
    [name, `${keyBase}:{g}`].map((key) => asking.cluster('KEYSLOT', key)),
  )
  asking.disconnect()
  const upload = newUpload(60)

  const moves = await Promise.all(slots.map((slot) => beginMove(servers, slot)))
  // Each touches keys that are not there yet, after others that are.
  const asked = Promise.all([
    store.allocateArtifact(session, newArtifact()),
    store.commitUploads(session, reservationId, [upload], { value: 'n', expiresAtMs: 9e12 }),
  ])
  const early = await Promise.race([
    asked.catch((error: unknown) => error),
    new Promise((resolve) => setTimeout(() => resolve('still waiting'), 300)),
  ])
  for (const move of moves) await move.end()

  t.equal(early, 'still waiting')
  t.match(await asked, ['allocated', { ok: true }])
  t.match(await store.resolveUploads(session, [upload.uploadId]), { ok: true })
  t.match(await store.inventory(), { pendingArtifacts: 1, bytes: 60, reservedBytes: 0 })
})
