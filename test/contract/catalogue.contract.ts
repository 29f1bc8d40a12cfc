/** What a state store keeps of a session's tools. */
import type { Test } from 'tap'

import { MAX_PINNED_CHARS } from '../../src/shared/state/store.ts'
import type { ContractOpener } from './contract-subject.ts'
import { newSession, opened, policyWith, sweptBy } from './store-fixtures.ts'

export function catalogueTests(t: Test, open: ContractOpener): void {
  t.test(
    'what is pinned first counts for everybody, for as long as the session lives',
    async (t) => {
      const { store } = await open(t, policyWith({}))
      const session = await opened(store)
      const other = await opened(store)
      const candidates = ['{"a":"é"}', '{"b":1}', '{"c":2}']
      const counted = await Promise.all(candidates.map((text) => store.pinCatalogue(session, text)))
      t.strictSame(new Set(counted), new Set([counted[0]]), 'all are told the same')
      t.ok(candidates.includes(String(counted[0])))
      t.equal(await store.pinCatalogue(session, 'later'), counted[0])
      t.equal(await store.pinCatalogue(session, String(counted[0])), counted[0])
      t.equal(await store.pinCatalogue(other, 'its own'), 'its own')
      await store.replaceUpstreamSession({ ...session, upstreamSessionId: 'new' }, 'upstream-1')
      t.equal(await store.pinCatalogue(session, 'later'), counted[0], 'a new upstream session too')
      await store.closeSession(session)
      t.equal(await store.pinCatalogue(session, 'x'), undefined)
      await store.openSession(session)
      t.equal(await store.pinCatalogue(session, 'x'), 'x', 'and nothing of it is left')
    },
  )

  t.test('a drift is news once, until it is another or gone', async (t) => {
    const { store } = await open(t, policyWith({}))
    const session = await opened(store)
    t.equal((await store.readSession(session))?.drift, null)
    t.equal(await store.noteDrift(session, null), false)
    const noted = await Promise.all(['1', '1', '1'].map((text) => store.noteDrift(session, text)))
    t.equal(noted.filter(Boolean).length, 1)
    t.equal((await store.readSession(session))?.drift, '1')
    t.equal(await store.noteDrift(session, '0'), true)
    t.equal(await store.noteDrift(session, '0'), false)
    t.equal((await store.readSession(session))?.drift, '0')
    t.equal(await store.pinCatalogue(session, 'tools'), 'tools', 'it can be there before a pin')
    t.equal((await store.readSession(session))?.drift, '0')
    t.equal(await store.noteDrift(session, null), true)
    t.equal((await store.readSession(session))?.drift, null)
    t.equal(await store.noteDrift(newSession(), 'x'), false)
  })

  t.test('a session that was idle keeps what was pinned when it is revived', async (t) => {
    const { store, advance } = await open(t, policyWith({ idleTtlMs: 1_000 }))
    const session = await opened(store)
    await store.pinCatalogue(session, 'first')
    await store.noteDrift(session, 'd')
    advance(1_001)
    await sweptBy(store, 10, [])
    t.equal(await store.reviveSession(session), 'active')
    t.equal(await store.pinCatalogue(session, 'second'), 'first')
    t.equal((await store.readSession(session))?.drift, 'd')
  })

  t.test(
    'a text that is too long is a mistake of the caller, and the longest is kept',
    async (t) => {
      const { store } = await open(t, policyWith({}))
      const session = await opened(store)
      await t.rejects(store.pinCatalogue(session, 'x'.repeat(MAX_PINNED_CHARS + 1)), /characters/)
      const longest = 'y'.repeat(MAX_PINNED_CHARS)
      t.equal(await store.pinCatalogue(session, longest), longest)
    },
  )
}
