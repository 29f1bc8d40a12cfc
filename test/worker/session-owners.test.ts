/** Whose a session is, and what a worker does for anybody else: nothing. */
import { once } from 'node:events'

import t from 'tap'

import { mintSessionId } from '../../src/shared/ids.ts'
import { SessionOwners } from '../../src/shared/principals.ts'
import type { SessionRecord } from '../../src/shared/state/records.ts'
import type { SessionView, StateStore } from '../../src/shared/state/store.ts'
import { SessionRegistry } from '../../src/worker/session/registry.ts'

const TOKENS = [
  { name: 'alice', token: 'a' },
  { name: 'bob', token: 'b' },
]
const NO_JWT = { issuer: null }
const OWNERS = new SessionOwners({ enabled: true, token: null, tokens: TOKENS, jwt: NO_JWT })
const ALICE = 'token:alice'
const BOB = 'token:bob'

const RECORD: SessionRecord = {
  schemaVersion: 1,
  serverId: 's',
  sessionId: mintSessionId(),
  createdAtMs: 1,
  principal: ALICE,
  protocolVersion: '2025-11-25',
  upstreamSessionId: 'one',
  initializeParams: {},
  upstreamHas: { tools: true, resources: false },
}

t.test('who owns a record follows from the configuration alone', async (t) => {
  const unbound = {}
  t.equal(OWNERS.ownerOf(RECORD), ALICE)
  t.equal(OWNERS.ownerOf(unbound), undefined, 'several principals')
  t.equal(of({ token: 'x' }).ownerOf(unbound), 'token:default')
  const rotating = [{ name: 'default', token: 'next' }]
  t.equal(of({ token: 'x', tokens: rotating }).ownerOf(unbound), 'token:default')
  t.equal(of({ token: 'x', issuer: 'https://idp' }).ownerOf(unbound), undefined)
  t.equal(of({ issuer: 'https://idp' }).ownerOf(unbound), undefined)
  t.equal(of({ off: true, token: 'x' }).ownerOf(unbound), '')
  t.equal(of({ off: true, token: 'x' }).ownerOf(RECORD), ALICE)
})

t.test('a foreign request shares nothing with the owner’s, not even its wait', async (t) => {
  const { store, revived, settle } = sleepingStore()
  const registry = new SessionRegistry(store, {
    idleTtlMs: null,
    copyLeaseMs: null,
    owners: OWNERS,
  })
  t.teardown(() => registry.stop())
  const find = (principal: string) => registry.find('s', RECORD.sessionId, principal)
  const asked = [find(BOB), find(ALICE), find(BOB), find(''), find(ALICE)]
  settle()
  const [first, own, second, nobody, again] = await Promise.allSettled(asked)
  for (const foreign of [first, second, nobody])
    t.match(foreign, { status: 'rejected', reason: { code: 'ADAPTER_SESSION_UNKNOWN' } })
  t.equal(own?.status, 'fulfilled')
  t.same(revived, [RECORD.sessionId], 'woken once, for its owner')
  t.match(again, own, 'whose requests share one object')

  const session = registry.peek('s', RECORD.sessionId, ALICE)
  if (session === undefined) throw new Error('it is at hand')
  const { lastUsedAtMs } = session
  t.equal(registry.peek('s', RECORD.sessionId, BOB), undefined)
  await t.rejects(find(BOB), { code: 'ADAPTER_SESSION_UNKNOWN' })
  t.equal(session.lastUsedAtMs, lastUsedAtMs, 'a foreign request is no use')
  t.equal(registry.peek('s', RECORD.sessionId, ALICE), session)
})

/** The owners of a deployment. */
function of(auth: {
  readonly token?: string
  readonly tokens?: typeof TOKENS
  readonly issuer?: string
  readonly off?: true
}): SessionOwners {
  return new SessionOwners({
    enabled: auth.off !== true,
    token: auth.token ?? null,
    tokens: auth.tokens ?? [],
    jwt: { issuer: auth.issuer ?? null },
  })
}

/** A store with the record asleep, whose first answers wait until `settle`. */
function sleepingStore() {
  const revived: string[] = []
  const gate = new AbortController()
  let state: SessionView['state'] = 'tombstoned'
  // What a registry asks of a store, and no more.
  const store = {
    onInvalidate: () => {},
    onAnnounced: () => {},
    readSession: async () => {
      if (!gate.signal.aborted) await once(gate.signal, 'abort')
      return { record: RECORD, state, lastAccessedAtMs: 0, terminalReason: null }
    },
    reviveSession: async ({ sessionId }: { sessionId: string }) => {
      revived.push(sessionId)
      state = 'active'
      return 'active'
    },
    touchSessions: async () => [],
  } as unknown as StateStore
  return { store, revived, settle: () => gate.abort() }
}
