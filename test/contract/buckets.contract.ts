/** How many requests a principal may make, as a state store counts them. */
import type { Test } from 'tap'

import type { ContractOpener } from './contract-subject.ts'
import { OPEN_POLICY, policyWith } from './store-fixtures.ts'

export function bucketTests(t: Test, open: ContractOpener): void {
  t.test('a bucket starts full, gives what it has, and fills at its pace', async (t) => {
    const policy = policyWith({ requestRate: { perMinute: 60, burst: 5 } })
    const { store, advance } = await open(t, policy)
    t.same(await store.takeRequests('a', 2), { granted: 2, retryAfterMs: 0 })
    t.same(await store.takeRequests('a', 9), { granted: 3, retryAfterMs: 0 }, 'what is left')
    t.same(await store.takeRequests('a', 1), { granted: 0, retryAfterMs: 1_000 })
    advance(250)
    t.same(await store.takeRequests('a', 1), { granted: 0, retryAfterMs: 750 })
    advance(750)
    t.same(await store.takeRequests('a', 3), { granted: 1, retryAfterMs: 0 })
    advance(3_600_000)
    t.same(await store.takeRequests('a', 99), { granted: 5, retryAfterMs: 0 }, 'never more')
  })

  t.test('each principal has a bucket of its own, whatever its name', async (t) => {
    const { store } = await open(t, policyWith({ requestRate: { perMinute: 1, burst: 1 } }))
    for (const principal of ['', 'token:a', 'jwt:https://issuer/ a b{}\n:*', 'x'.repeat(5_000)]) {
      t.same(await store.takeRequests(principal, 1), { granted: 1, retryAfterMs: 0 })
      t.same(await store.takeRequests(principal, 1), { granted: 0, retryAfterMs: 60_000 })
    }
  })

  t.test('of many that take at once, as many as there are get one', async (t) => {
    const { store } = await open(t, policyWith({ requestRate: { perMinute: 1, burst: 7 } }))
    const all = await Promise.all(Array.from({ length: 40 }, () => store.takeRequests('a', 1)))
    t.equal(all.filter(({ granted }) => granted === 1).length, 7)
  })

  t.test('without a limit everything is granted, but nothing that is no number', async (t) => {
    const { store } = await open(t, OPEN_POLICY)
    t.same(await store.takeRequests('a', 1_000_000), { granted: 1_000_000, retryAfterMs: 0 })
    for (const count of [0, -1, 1.5, Number.NaN])
      await t.rejects(store.takeRequests('a', count), /cannot take/)
  })
}
