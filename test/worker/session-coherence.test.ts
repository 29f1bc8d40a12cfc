/** What a replica may believe of a session that another replica changes. Two registries over one store act as two replicas. */
import t from 'tap'
import type { Test } from 'tap'

import type { SessionKey, SessionRecord } from '../../src/shared/state/records.ts'
import type { StateStore } from '../../src/shared/state/store.ts'
import { SessionRegistry } from '../../src/worker/session/registry.ts'
import { openMemoryStore } from '../support/memory-store.ts'
import { newSession, OPEN_POLICY } from '../contract/store-fixtures.ts'
import { eventually } from '../support/eventually.ts'

const LEASE_MS = 300

interface Replica {
  readonly registry: SessionRegistry
  /** Delivers what a change of this session would publish. */
  readonly hear: (key: SessionKey) => void
}

interface Pair {
  readonly store: StateStore
  readonly first: Replica
  readonly second: Replica
  /** What happens to the next readings: answered late, after `during` ran. */
  during: (() => Promise<void>) | undefined
  /** Times that the store was asked for a session. */
  readings: number
}

function pair(t: Test, copyLeaseMs: number | null = LEASE_MS): Pair {
  const store = openMemoryStore(OPEN_POLICY)
  const state: { during: Pair['during']; readings: number } = { during: undefined, readings: 0 }
  const replica = (): Replica => {
    let listener: ((key: SessionKey) => void) | undefined
    const view: StateStore = new Proxy<StateStore>(store, {
      get(target, name) {
        if (name === 'onInvalidate') {
          return (heard: (key: SessionKey) => void) => {
            listener = heard
          }
        }
        if (name === 'readSession') {
          return async (key: SessionKey) => {
            state.readings++
            const answer = await target.readSession(key)
            const { during } = state
            state.during = undefined
            await during?.()
            return answer
          }
        }
        const member: unknown = Reflect.get(target, name)
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
    const registry = new SessionRegistry(view, { idleTtlMs: null, copyLeaseMs })
    t.teardown(() => registry.stop())
    return { registry, hear: (key) => listener?.(key) }
  }
  return Object.assign(state, { store, first: replica(), second: replica() })
}

async function opened(at: Replica): Promise<SessionRecord> {
  const record = newSession()
  await at.registry.open(record)
  return record
}

t.test('what another replica ended is not served after its message', async (t) => {
  const both = pair(t)
  const { serverId, sessionId } = await opened(both.first)
  const copy = await both.second.registry.find(serverId, sessionId)
  await both.first.registry.close(await both.first.registry.find(serverId, sessionId))
  both.second.hear(copy.key)
  t.equal(both.second.registry.peek(serverId, sessionId), undefined)
  await t.rejects(both.second.registry.find(serverId, sessionId), {
    code: 'ADAPTER_SESSION_UNKNOWN',
  })
})

t.test('when the message is lost, the copy ends with its lease', async (t) => {
  const both = pair(t)
  const { serverId, sessionId } = await opened(both.first)
  await both.second.registry.find(serverId, sessionId)
  await both.store.closeSession({ serverId, sessionId })
  // Used all the time: use alone must not keep it.
  await eventually('the copy is not served', async () => {
    return both.second.registry.peek(serverId, sessionId) === undefined
  })
  await t.rejects(both.second.registry.find(serverId, sessionId), {
    code: 'ADAPTER_SESSION_UNKNOWN',
  })
})

t.test('a lost message about a new upstream session is made up for too', async (t) => {
  const both = pair(t)
  const record = await opened(both.first)
  const { serverId, sessionId } = record
  await both.second.registry.find(serverId, sessionId)
  await both.store.replaceUpstreamSession({ ...record, upstreamSessionId: 'two' }, 'upstream-1')
  await eventually('the new record is served', async () => {
    const session = await both.second.registry.find(serverId, sessionId)
    return session.record.upstreamSessionId === 'two'
  })
})

t.test(
  'a session in use is confirmed by the notes of its use, without another reading',
  async (t) => {
    const both = pair(t, 3_000)
    const { serverId, sessionId } = await opened(both.first)
    const copy = await both.second.registry.find(serverId, sessionId)
    const { readings } = both
    const firstConfirmation = copy.confirmedAtMs
    await eventually('the copy is confirmed', () => {
      t.equal(both.second.registry.peek(serverId, sessionId), copy)
      return copy.confirmedAtMs !== firstConfirmation
    })
    t.equal(both.readings, readings)
  },
)

t.test(
  'a change that comes while the session is being read is not overwritten by it',
  async (t) => {
    const both = pair(t)
    const record = await opened(both.first)
    const { serverId, sessionId } = record
    both.during = async () => {
      await both.store.replaceUpstreamSession({ ...record, upstreamSessionId: 'two' }, 'upstream-1')
      both.second.hear(record)
    }
    const session = await both.second.registry.find(serverId, sessionId)
    t.equal(session.record.upstreamSessionId, 'two')
  },
)

t.test('where no other process changes the store, a copy has no lease', async (t) => {
  const both = pair(t, null)
  const { serverId, sessionId } = await opened(both.first)
  const session = await both.first.registry.find(serverId, sessionId)
  session.confirmedAtMs = -1e9
  t.equal(both.first.registry.peek(serverId, sessionId), session)
})
