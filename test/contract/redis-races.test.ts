/** A hundred clients of one Redis race for the last of something: one gets it, in every round. */
import t from 'tap'
import type { Test } from 'tap'

import type { SessionRecord } from '../../src/shared/state/records.ts'
import type { RedisClient } from '../../src/shared/state/redis/connection.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import { startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { BareRedisStore, connect, newKeyBase } from './redis-subject.ts'
import { SumWatch } from './redis-sums.ts'
import {
  finalOf,
  newArtifact,
  newSession,
  newUpload,
  opened,
  policyWith,
  reserved,
  uploaded,
} from './store-fixtures.ts'

t.setTimeout(600_000)

const CLIENTS = 100
const ROUNDS = 150

/** Everybody who races, on the same state. */
interface Field {
  readonly racers: readonly BareRedisStore[]
  /** One of them, for what happens before and after a round. */
  readonly judge: BareRedisStore
  /** What is counted, beside what there is. */
  readonly sums: SumWatch
  /** Moves the clock of all. */
  readonly advance: (ms: number) => void
}

let server: RedisServer
let clients: readonly RedisClient[]

t.before(async () => {
  server = await startRedis(t)
  clients = await Promise.all(Array.from({ length: CLIENTS }, () => connect([server])))
})

t.teardown(() => {
  for (const client of clients) client.disconnect()
})

function fieldWith(changes: Partial<StorePolicy>): Field {
  const policy = policyWith(changes)
  const keyBase = newKeyBase()
  let offsetMs = 0
  const racers = clients.map(
    (client) =>
      new BareRedisStore({
        client,
        keyBase,
        policy,
        onWarning: () => undefined,
        clockOffset: () => offsetMs,
      }),
  )
  const [judge] = racers
  const [client] = clients
  if (judge === undefined || client === undefined) throw new Error('nobody races')
  return {
    racers,
    judge,
    sums: new SumWatch(client, keyBase),
    advance: (ms) => {
      offsetMs += ms
    },
  }
}

/** Counts outcomes of one round in which all race at once. */
async function race(
  { racers, sums }: Field,
  run: (racer: BareRedisStore, index: number) => Promise<string>,
): Promise<{ readonly [outcome: string]: number }> {
  const counts: { [outcome: string]: number } = {}
  const running = Promise.all(racers.map(run))
  for (const outcome of await sums.during(running)) counts[outcome] = (counts[outcome] ?? 0) + 1
  return counts
}

/** Runs rounds one after the other, and says which one went wrong. */
async function rounds(
  t: Test,
  number: number,
  round: (index: number) => Promise<{ readonly got: unknown; readonly wanted: unknown }>,
): Promise<void> {
  let wrong = 0
  for (let index = 0; index < number && wrong < 3; index++) {
    // oxlint-disable-next-line no-await-in-loop -- each begins when the one before is over
    const { got, wanted } = await round(index)
    if (JSON.stringify(got) !== JSON.stringify(wanted)) {
      wrong++
      t.strictSame(got, wanted, `round ${index}`)
    }
  }
  t.equal(wrong, 0, `${number} rounds`)
}

async function endsAsCounted(t: Test, { judge, sums }: Field): Promise<void> {
  t.ok(sums.looks > 0, `looked ${sums.looks} times while they raced`)
  t.strictSame(sums.undercounted, [], 'never was less counted than there was')
  const before = await judge.inventory()
  t.strictSame(await judge.repairCounters(null), { sessions: 0, bytes: 0 })
  t.strictSame(await judge.inventory(), before, 'nothing had to be repaired')
}

t.test('the last slot of an active session', async (t) => {
  const field = fieldWith({ maxActiveSessions: 3 })
  await opened(field.judge)
  await opened(field.judge)
  await rounds(t, ROUNDS, async () => {
    let winner: SessionRecord | undefined
    const got = await race(field, async (racer) => {
      const record = newSession()
      const outcome = await racer.openSession(record)
      if (outcome === 'opened') winner = record
      return outcome
    })
    const { sessions } = await field.judge.inventory()
    if (winner !== undefined) await field.judge.closeSession(winner)
    return {
      got: { opened: got['opened'], at_capacity: got['at_capacity'], sessions },
      wanted: { opened: 1, at_capacity: CLIENTS - 1, sessions: 3 },
    }
  })
  await endsAsCounted(t, field)
})

t.test('slots of idle sessions, for new ones and for those that come back', async (t) => {
  const field = fieldWith({ maxActiveSessions: 5, idleTtlMs: 60_000, tombstoneTtlMs: 1e9 })
  let active: SessionRecord[] = []
  for (let i = 0; i < 5; i++) active.push(await opened(field.judge)) // one after the other
  await rounds(t, 50, async () => {
    field.advance(50_000)
    const kept = active.slice(3)
    const idle = active.slice(0, 3)
    await field.judge.touchSessions(kept)
    field.advance(20_000)
    const winners: SessionRecord[] = []
    const got = await race(field, async (racer, index) => {
      const back = index % 4 === 0 ? idle[index % 3] : undefined
      const record = back ?? newSession()
      const outcome =
        back === undefined ? await racer.openSession(record) : await racer.reviveSession(record)
      if (outcome === 'opened' || outcome === 'active') winners.push(record)
      return outcome
    })
    const { sessions } = await field.judge.inventory()
    active = [...kept, ...new Set(winners)]
    const views = await Promise.all(active.map((record) => field.judge.readSession(record)))
    return {
      got: {
        gone: got['gone'] ?? 0,
        winners: active.length,
        active: views.filter((view) => view?.state === 'active').length,
        sessions,
      },
      wanted: { gone: 0, winners: 5, active: 5, sessions: 5 },
    }
  })
  await endsAsCounted(t, field)
})

t.test('the last byte of a session', async (t) => {
  const field = fieldWith({ maxSessionBytes: 1_000 })
  const session = await opened(field.judge)
  await reserved(field.judge, session, 999)
  await rounds(t, ROUNDS, async () => {
    let winner = ''
    const got = await race(field, async (racer) => {
      const outcome = await racer.reserveBytes(session, 1)
      if (outcome.ok) winner = outcome.reservationId
      return outcome.ok ? 'ok' : outcome.reason
    })
    const { reservedBytes } = await field.judge.inventory()
    await field.judge.releaseBytes(session, winner)
    return {
      got: { ok: got['ok'], session_quota: got['session_quota'], reservedBytes },
      wanted: { ok: 1, session_quota: CLIENTS - 1, reservedBytes: 1_000 },
    }
  })
  await endsAsCounted(t, field)
})

t.test('the last bytes of all, in different sessions', async (t) => {
  const field = fieldWith({ maxTotalBytes: 10_000 })
  const sessions = await Promise.all(Array.from({ length: 10 }, () => opened(field.judge)))
  const [first] = sessions
  if (first === undefined) throw new Error('no session')
  await reserved(field.judge, first, 9_950)
  await rounds(t, ROUNDS, async (index) => {
    // Down to the last byte in the first round of four; as many as fit, and no more, in the others.
    const bytes = [50, 7, 1, 25][index % 4] ?? 1
    const fitting = Math.floor(50 / bytes)
    const taken: (readonly [SessionRecord, string])[] = []
    const got = await race(field, async (racer, number) => {
      const session = sessions[number % sessions.length] ?? first
      const outcome = await racer.reserveBytes(session, bytes)
      if (outcome.ok) taken.push([session, outcome.reservationId])
      return outcome.ok ? 'ok' : outcome.reason
    })
    const { reservedBytes } = await field.judge.inventory()
    await Promise.all(taken.map(([session, id]) => field.judge.releaseBytes(session, id)))
    return {
      got: { ok: got['ok'], global_quota: got['global_quota'], reservedBytes },
      wanted: {
        ok: fitting,
        global_quota: CLIENTS - fitting,
        reservedBytes: 9_950 + fitting * bytes,
      },
    }
  })
  await endsAsCounted(t, field)
})

t.test('bytes of all while sessions evict for themselves', async (t) => {
  const field = fieldWith({ maxSessionBytes: 100, maxTotalBytes: 1_000 })
  const sessions = await Promise.all(Array.from({ length: 10 }, () => opened(field.judge)))
  let most = 0
  await rounds(t, 50, async () => {
    const reasons = await race(field, async (racer, index) => {
      const session = sessions[index % sessions.length]
      if (session === undefined) throw new Error('no session')
      const room = await racer.reserveBytes(session, 40)
      if (!room.ok) return room.reason
      await racer.commitUploads(session, room.reservationId, [newUpload(40 - (index % 3))])
      return 'ok'
    })
    const { bytes, reservedBytes } = await field.judge.inventory()
    most = Math.max(most, bytes + reservedBytes)
    return {
      got: { isWithin: bytes <= 1_000, reservedBytes, global: reasons['global_quota'] ?? 0 },
      // Ten sessions of a hundred bytes are all that there may be: nobody is refused for the sake of all.
      wanted: { isWithin: true, reservedBytes: 0, global: 0 },
    }
  })
  t.ok(most > 700, 'and it was used')
  await endsAsCounted(t, field)
})

t.test('the last slot of calls in flight', async (t) => {
  const field = fieldWith({ maxInFlightPerSession: 16, callLeaseMs: 600_000 })
  const session = await opened(field.judge)
  await field.judge.enterCalls(session, 'first', 15, 0)
  await rounds(t, ROUNDS, async (round) => {
    const got = await race(field, async (racer, index) => {
      const answer = await racer.enterCalls(session, `${round}-${index}`, 1, 0)
      return typeof answer === 'number' ? 'entered' : answer
    })
    await Promise.all(
      field.racers.map((racer, index) => racer.leaveCalls(session, `${round}-${index}`)),
    )
    return {
      got: { entered: got['entered'], at_limit: got['at_limit'] },
      wanted: { entered: 1, at_limit: CLIENTS - 1 },
    }
  })
})

t.test('the same nonce', async (t) => {
  const field = fieldWith({})
  await rounds(t, ROUNDS, async (round) => {
    const session = await opened(field.judge)
    const rooms = await Promise.all(field.racers.map((racer) => reserved(racer, session, 1)))
    const nonce = { value: `nonce-${round}`, expiresAtMs: Date.now() + 600_000 }
    const got = await race(field, async (racer, index) => {
      const id = rooms[index]?.reservationId ?? ''
      const outcome = await racer.commitUploads(session, id, [newUpload(1)], nonce)
      return outcome.ok ? 'ok' : outcome.reason
    })
    const { uploads, bytes } = await field.judge.inventory()
    await field.judge.closeSession(session)
    return {
      got: { ok: got['ok'], nonce_used: got['nonce_used'], uploads, bytes },
      wanted: { ok: 1, nonce_used: CLIENTS - 1, uploads: 1, bytes: 1 },
    }
  })
  await endsAsCounted(t, field)
})

t.test('the last artifact of a session', async (t) => {
  const field = fieldWith({ maxArtifactsPerSession: 3 })
  const session = await opened(field.judge)
  await field.judge.allocateArtifact(session, newArtifact())
  await field.judge.allocateArtifact(session, newArtifact())
  await rounds(t, ROUNDS, async () => {
    let winner = newArtifact()
    const got = await race(field, async (racer) => {
      const artifact = newArtifact()
      const outcome = await racer.allocateArtifact(session, artifact)
      if (outcome === 'allocated') winner = artifact
      return outcome
    })
    await field.judge.commitArtifact(session, winner.artifactId, finalOf(1))
    await field.judge.dropArtifact(session, winner.artifactId)
    return {
      got: { allocated: got['allocated'], at_capacity: got['at_capacity'] },
      wanted: { allocated: 1, at_capacity: CLIENTS - 1 },
    }
  })
  await endsAsCounted(t, field)
})

t.test('a session that is closed while all use it leaves nothing', async (t) => {
  const field = fieldWith({ maxSessionBytes: 1_000, maxTotalBytes: 1_000 })
  await rounds(t, 50, async () => {
    const session = await opened(field.judge)
    await uploaded(field.judge, session, 10)
    await race(field, async (racer, index) => {
      if (index === 50) return (await racer.closeSession(session)) === undefined ? 'no' : 'closed'
      const room = await racer.reserveBytes(session, 1 + (index % 20))
      if (!room.ok) return room.reason
      const outcome = await racer.commitUploads(session, room.reservationId, [newUpload(1)])
      return outcome.ok ? 'ok' : outcome.reason
    })
    return {
      got: await field.judge.inventory(),
      wanted: {
        sessions: 0,
        tombstones: 0,
        uploads: 0,
        artifacts: 0,
        pendingArtifacts: 0,
        bytes: 0,
        reservedBytes: 0,
      },
    }
  })
})

t.test('what expires is found, whatever was swept when it came', async (t) => {
  const field = fieldWith({ uploadTtlMs: 60_000, artifactTtlMs: 90_000, idleTtlMs: 1e9 })
  const sessions = await Promise.all(Array.from({ length: 4 }, () => opened(field.judge)))
  await rounds(t, 30, async () => {
    // What came in the round before is due to be looked at while more comes.
    field.advance(45_000)
    const got = await race(field, async (racer, index) => {
      const session = sessions[index % sessions.length]
      if (session === undefined) throw new Error('no session')
      if (index % 3 === 0) await racer.sweep(100, [], null)
      else await uploaded(racer, session, 1)
      return 'done'
    })
    return { got, wanted: { done: CLIENTS } }
  })
  field.advance(90_001)
  // Looks at nothing but what is known to be due.
  await field.judge.sweep(100_000, [], null)
  t.match(await field.judge.inventory(), { uploads: 0, bytes: 0 })
  await endsAsCounted(t, field)
})
