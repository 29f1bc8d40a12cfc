/** Places for requests that the store counts over all replicas. Each `CallPlaces` acts as one replica's. */
import t from 'tap'
import type { Test } from 'tap'

import { CALL_LEASE_MS } from '../../src/shared/state/local-options.ts'
import type { SessionRecord } from '../../src/shared/state/records.ts'
import type { StateStore } from '../../src/shared/state/store.ts'
import { CallPlaces } from '../../src/worker/session/call-places.ts'
import { openMemoryStore } from '../support/memory-store.ts'
import { opened, policyWith } from '../contract/store-fixtures.ts'
import { eventually } from '../support/eventually.ts'

interface Stage {
  readonly session: SessionRecord
  /** Questions about places that the store was asked. */
  readonly questions: () => number
  /** The places of one more replica. With `heeds`, it gives back when others are told to wait. */
  readonly replica: (heeds: boolean) => CallPlaces
  /** Lets time pass, for the store and for the replicas. */
  readonly advance: (ms: number) => void
}

async function stage(t: Test, limit: number): Promise<Stage> {
  let nowMs = 1_000_000
  const store = openMemoryStore(
    policyWith({ maxInFlightPerSession: limit, callLeaseMs: CALL_LEASE_MS }),
    () => nowMs,
  )
  t.teardown(() => store.close())
  let questions = 0
  const all: CallPlaces[] = []
  const counted: StateStore = new Proxy<StateStore>(store, {
    get(target, name) {
      if (name === 'enterCalls') {
        return async (...args: Parameters<StateStore['enterCalls']>) => {
          questions++
          const answer = await target.enterCalls(...args)
          if (answer === 'wait') for (const places of all) places.giveBack()
          return answer
        }
      }
      const member: unknown = Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
  const session = await opened(store)
  return {
    session,
    questions: () => questions,
    replica: (heeds) => {
      const places = new CallPlaces(counted, session, () => nowMs)
      if (heeds) all.push(places)
      return places
    },
    advance(ms) {
      nowMs += ms
    },
  }
}

t.test('far from the limit, requests one after the other ask once', async (t) => {
  const { replica, questions } = await stage(t, 100)
  const places = replica(true)
  for (let i = 0; i < 50; i++) {
    t.equal(await places.enter(1), undefined)
    places.leave(1)
  }
  t.equal(questions(), 1)
  t.ok(places.lease)
  places.rest()
  places.rest()
  t.equal(places.lease, undefined, 'what is not used is given up')
})

t.test('requests that come at the same time share questions', async (t) => {
  const { replica, questions } = await stage(t, 100)
  const places = replica(true)
  t.same(
    await Promise.all(Array.from({ length: 8 }, () => places.enter(1))),
    Array(8).fill(undefined),
  )
  t.equal(questions(), 1)
  t.equal(await places.enter(1), undefined)
  t.equal(questions(), 2)
})

t.test('the last place is found although another replica holds places to spare', async (t) => {
  const { replica } = await stage(t, 16)
  const [first, second] = [replica(true), replica(true)]
  t.equal(await first.enter(1), undefined)
  for (let i = 0; i < 15; i++) t.equal(await second.enter(1), undefined, `${i + 2} of 16`)
  t.equal(await second.enter(1), 'at_limit')
  t.equal(await first.enter(1), 'at_limit')
  first.leave(1)
  await eventually(
    'the place is free for the other',
    async () => (await second.enter(1)) === undefined,
  )
})

t.test('the limit is not passed when a replica does not give back', async (t) => {
  const { replica } = await stage(t, 16)
  const [deaf, other] = [replica(false), replica(true)]
  t.equal(await deaf.enter(1), undefined)
  let entered = 0
  while ((await other.enter(1)) === undefined) entered++
  t.equal(entered, 8, 'the deaf one has 1 and 7 to spare')
})

t.test('places of a lease that has ended are not given to new requests', async (t) => {
  const { replica, advance, questions } = await stage(t, 16)
  const [cutOff, other] = [replica(true), replica(true)]
  // One long request, and 7 places to spare: then the process is paused, or can't reach the store.
  t.equal(await cutOff.enter(1), undefined)
  advance(CALL_LEASE_MS + 1)
  for (let i = 0; i < 16; i++) t.equal(await other.enter(1), undefined, `${i + 1} of 16`)
  t.equal(cutOff.tryEnter(1), false)
  t.equal(await cutOff.enter(1), 'at_limit')
  other.end()
  const before = questions()
  t.equal(await cutOff.enter(1), undefined, 'which counts the long request again')
  t.equal(questions(), before + 1)
  t.equal(await other.enter(15), 'at_limit')
  t.equal(await other.enter(14), undefined)
})

t.test('many requests of many replicas: never more than the limit, and all of it', async (t) => {
  const { replica } = await stage(t, 6)
  const replicas = Array.from({ length: 4 }, () => replica(true))
  for (let round = 0; round < 50; round++) {
    // A round begins when the one before has ended.
    // oxlint-disable-next-line no-await-in-loop
    const outcomes = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const places = replicas[i % replicas.length]
        return { places, refused: await places?.enter(1) }
      }),
    )
    const entered = outcomes.filter(({ refused }) => refused === undefined)
    t.equal(entered.length, 6, `round ${round}`)
    for (const { places } of entered) places?.leave(1)
    for (const places of replicas) places.end()
  }
})

t.test('when the store fails, nobody is let in, and later all is as before', async (t) => {
  const { session } = await stage(t, 4)
  let isDown = true
  const store = {
    enterCalls: async () => {
      if (isDown) throw new Error('down')
      return 1
    },
    leaveCalls: async () => {},
  }
  // As much of a store as is asked here.
  const places = new CallPlaces(store as unknown as StateStore, session)
  await t.rejects(places.enter(1), { message: 'down' })
  await t.rejects(Promise.all([places.enter(1), places.enter(1)]), { message: 'down' })
  isDown = false
  t.equal(await places.enter(1), undefined)
})
