/** What a dead process had begun ends by itself, also while its session goes on elsewhere. */
import { EventEmitter, once } from 'node:events'

import t from 'tap'

import { startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { cutAfter, overtakenBefore } from './redis-steps.ts'
import { BareRedisStore, connect, newKeyBase, openRedisStore } from './redis-subject.ts'
import { SumWatch } from './redis-sums.ts'
import { finalOf, newArtifact, opened, policyWith, reserved, sweptBy } from './store-fixtures.ts'

/** The command of a repair that ends claims, where there is one session. */
const REPAIR_STEP_OF_CLAIMS = 5

let server: RedisServer

t.before(async () => {
  server = await startRedis(t)
})

t.test('a session in use keeps only what those who use it have begun', async (t) => {
  let nowMs = 1_000_000
  const subject = { keyBase: newKeyBase(), frozenClock: () => nowMs }
  const policy = policyWith({ maxArtifactsPerSession: 2, maxTotalBytes: 100, idleTtlMs: 60_000 })
  const dead = await openRedisStore(t, [server], policy, subject)
  const alive = await openRedisStore(t, [server], policy, subject)
  const session = await opened(dead)
  const [lost, kept] = [newArtifact(), newArtifact()]
  await dead.allocateArtifact(session, lost)
  await alive.allocateArtifact(session, kept)
  await reserved(dead, session, 60)
  const { reservationId } = await reserved(alive, session, 40)
  await dead.close()

  const removed: string[] = []
  for (let beat = 0; beat < 100; beat++) {
    nowMs += 4_000
    // Each beat comes after the time before it has passed.
    // oxlint-disable-next-line no-await-in-loop
    await alive.keepAlive([{ key: session, callLeases: [] }])
    // oxlint-disable-next-line no-await-in-loop
    const report = await sweptBy(alive, 10, [session])
    removed.push(...report.files.map(({ id }) => id))
  }

  t.strictSame(removed, [lost.artifactId], 'the pending artifact of the dead process')
  t.match(await alive.inventory(), { pendingArtifacts: 1, reservedBytes: 40 })
  t.match(await alive.reserveBytes(session, 60), { ok: true }, 'its bytes are free')
  t.equal(await alive.allocateArtifact(session, newArtifact()), 'allocated', 'its place too')
  await alive.releaseBytes(session, reservationId)
  t.match(await alive.commitArtifact(session, kept.artifactId, finalOf(1)), { ok: true })
})

t.test('an upload that goes on keeps its own reservation', async (t) => {
  let nowMs = 1_000_000
  const subject = { keyBase: newKeyBase(), frozenClock: () => nowMs }
  const store = await openRedisStore(t, [server], policyWith({}), subject)
  const other = await openRedisStore(t, [server], policyWith({}), subject)
  const session = await opened(store)
  const { reservationId } = await reserved(store, session, 7)
  for (let beat = 0; beat < 4; beat++) {
    nowMs += 200_000
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.match(await store.reserveBytes(session, 0, reservationId), { ok: true })
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await sweptBy(other, 10, [])
  }
  t.equal((await store.inventory()).reservedBytes, 7)
})

t.test('a repair ends no claim that was used while it went on', async (t) => {
  const keyBase = newKeyBase()
  let offsetMs = 0
  const clients = await Promise.all([connect([server]), connect([server]), connect([server])])
  t.teardown(() => {
    for (const client of clients) client.disconnect()
  })
  const [client, dying, repairing] = clients
  const clock = { offsetMs: () => offsetMs }
  const open = (of: typeof client): BareRedisStore =>
    new BareRedisStore({
      client: of,
      keyBase,
      policy: policyWith({ maxTotalBytes: 100 }),
      onWarning: () => undefined,
      clockOffset: clock.offsetMs,
    })
  const session = await opened(open(client))
  // Also so that the server knows its scripts: what has to be sent twice counts as two steps.
  await open(client).repairCounters(null)
  const steps = new EventEmitter()
  const [claimed, mayReserve] = [once(steps, 'claimed'), once(steps, 'go on')]
  const wait = async (): Promise<void> => {
    steps.emit('claimed')
    await mayReserve
  }
  // Its claim is used late, and it dies before it says so.
  const late = overtakenBefore(cutAfter(dying, 2).client, 2, { act: wait, ...clock })
  const reserving = open(late.client).reserveBytes(session, 60)
  await claimed
  let looks = 0
  const act = async (): Promise<void> => {
    looks++
    offsetMs += 44_000
    steps.emit('go on')
    t.match(await reserving, { ok: true })
    offsetMs += 17_000
  }
  // When the session has been counted, and the claims have not.
  const repair = overtakenBefore(repairing, REPAIR_STEP_OF_CLAIMS, { act, ...clock })
  await open(repair.client).repairCounters(null)

  t.equal(looks, 1)
  const sums = new SumWatch(client, keyBase)
  await sums.look()
  t.strictSame(sums.undercounted, [], 'not too little is counted')
  offsetMs += 61_000
  await open(client).repairCounters(null)
  t.match(await sums.look(), { bytes: 60, countedBytes: 60 }, 'nor too much in the end')
})
