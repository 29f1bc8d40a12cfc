/** What is particular to the store on Redis: its keys, its scripts, what is lost or written by others, and what is said when it fails. */
import { Redis } from 'ioredis'
import { Packr } from 'msgpackr'
import t from 'tap'
import type { Test } from 'tap'

import { mintSessionId } from '../../src/shared/ids.ts'
import type { SessionKey, SessionRecord } from '../../src/shared/state/records.ts'
import { eventually } from '../support/eventually.ts'
import { startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { BareRedisStore, newKeyBase, openRedisStore } from './redis-subject.ts'
import {
  newArtifact,
  newSession,
  newUpload,
  opened,
  policyWith,
  produced,
  reserved,
  uploaded,
} from './store-fixtures.ts'

let server: RedisServer

t.before(async () => {
  server = await startRedis(t)
})

/** A plain connection to look and meddle with. */
function rawClient(t: Test, port = server.port): Redis {
  const client = new Redis(port, '127.0.0.1', { maxRetriesPerRequest: 0 })
  client.on('error', () => undefined)
  t.teardown(() => client.disconnect())
  return client
}

function hashOf(keyBase: string, { serverId, sessionId }: SessionKey): string {
  return `${keyBase}:{s:${serverId}:${sessionId}}`
}

t.test('everything that a session has ends by itself long after its time', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  const policy = policyWith({ idleTtlMs: 60_000, tombstoneTtlMs: 30_000 })
  const store = await openRedisStore(t, [server], policy, { keyBase })
  const session = await opened(store)
  const { reservationId } = await reserved(store, session, 5)
  const nonce = { value: 'n', expiresAtMs: Date.now() + 10_000 }
  await store.commitUploads(session, reservationId, [newUpload(5)], nonce)
  await produced(store, session, 5)
  await store.allocateArtifact(session, newArtifact())
  await reserved(store, session, 5)
  await store.enterCalls(session, 'lease', 1, 0)
  const claim = await store.claimStream(session, 'holder', null)
  await store.keepEvents(session, claim.ok ? claim.epoch : 0, ['event'])
  const keys = await raw.keys(`${keyBase}:{s:*`)
  t.equal(keys.length, 13, keys.join(' '))
  for (const key of keys) {
    // oxlint-disable-next-line no-await-in-loop -- a handful
    const ttlMs = await raw.pttl(key)
    const isShort = /:(n|c|cn)$/.test(key)
    t.ok(ttlMs > (isShort ? 0 : 3_600_000), `${key} lives`)
    t.ok(ttlMs < (isShort ? 120_000 : 2 * 86_400_000), `${key} ends`)
  }
  await store.closeSession(session)
  t.strictSame(await raw.keys(`${keyBase}:{s:*`), [`${hashOf(keyBase, session)}:n`])
})

t.test('without an idle time nothing of a session ends by itself', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  const before = await openRedisStore(t, [server], policyWith({ idleTtlMs: 60_000 }), { keyBase })
  const session = await opened(before)
  t.ok((await raw.pttl(hashOf(keyBase, session))) > 0)
  const store = await openRedisStore(t, [server], policyWith({}), { keyBase })
  const other = await opened(store)
  await uploaded(store, other, 1)
  await eventually('a later moment', async () => {
    await store.touchSessions([session])
    return (await raw.pttl(hashOf(keyBase, session))) === -1
  })
  for (const suffix of ['', ':i', ':z', ':u']) {
    // oxlint-disable-next-line no-await-in-loop -- a handful
    t.equal(await raw.pttl(hashOf(keyBase, other) + suffix), -1)
  }
})

t.test('records of one version newer are read, and keep what they added', async (t) => {
  const keyBase = newKeyBase()
  const warnings: string[] = []
  const options = { keyBase, onWarning: (text: string) => warnings.push(text) }
  const store = await openRedisStore(t, [server], policyWith({}), options)
  const newer = { ...newSession(), schemaVersion: 2, addition: { of: ['a', { newer: null }] } }
  // What a newer version writes is not what this one knows by type.
  const record = newer as unknown as SessionRecord
  await opened(store, record)
  const view = await store.readSession(record)
  t.strictSame(view?.record, newer)
  if (view === undefined) throw new Error('no session')
  const { record: read } = view
  t.ok(await store.replaceUpstreamSession({ ...read, upstreamSessionId: 'b' }, 'upstream-1'))
  t.strictSame((await store.readSession(record))?.record, { ...newer, upstreamSessionId: 'b' })
  const upload = { ...newUpload(1), addition: 1 }
  const { reservationId } = await reserved(store, record, 1)
  await store.commitUploads(record, reservationId, [upload])
  t.strictSame(await store.resolveUploads(record, [upload.uploadId]), {
    ok: true,
    uploads: [upload],
  })
  const artifact = { ...newArtifact(), addition: 1 }
  await store.allocateArtifact(record, artifact)
  const final = { filename: 'a', mimeType: 'b/c', sizeBytes: 1, sha256: 'd', other: 2 }
  await store.commitArtifact(record, artifact.artifactId, final)
  const [listed] = await store.listArtifacts(record)
  t.match(listed, { ...artifact, ...final })
  t.strictSame(warnings, [])
})

t.test('a record that is no record, or too new, stops nothing and is warned of once', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  const warnings: string[] = []
  const options = { keyBase, onWarning: (text: string) => warnings.push(text) }
  const store = await openRedisStore(t, [server], policyWith({ idleTtlMs: 1e9 }), options)
  const [tooNew, broken, foreign, good] = [
    await opened(store, { ...newSession(), schemaVersion: 3 } as unknown as SessionRecord),
    await opened(store),
    await opened(store),
    await opened(store),
  ]
  await raw.hset(hashOf(keyBase, broken), 'rec', Buffer.from([0xc1, 0xff, 0x00]))
  const packed = new Packr({ useRecords: false }).pack(newSession())
  await raw.hset(hashOf(keyBase, foreign), 'rec', packed)
  const upload = await uploaded(store, broken, 1)
  for (const session of [tooNew, broken, foreign]) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.equal(await store.readSession(session), undefined)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.equal(await store.readSession(session), undefined)
  }
  t.equal(warnings.length, 3)
  t.match(warnings[0], /can't be read/)
  t.equal(await store.reviveSession(tooNew), 'gone')
  t.strictSame(await store.touchSessions([tooNew, good]), [undefined, 'upstream-1'])
  t.equal(await store.replaceUpstreamSession(tooNew, 'upstream-1'), false)
  t.match(await store.referencedItems(broken), { uploads: [upload] })
  t.equal(await store.closeSession(broken), undefined)
  t.strictSame(await store.closeSession(good), good)
})

t.test('scripts that the server has forgotten are sent again', async (t) => {
  const store = await openRedisStore(t, [server], policyWith({}))
  const session = await opened(store)
  await rawClient(t).script('FLUSH')
  const views = await Promise.all([1, 2, 3].map(() => store.readSession(session)))
  t.equal(views.filter((view) => view?.state === 'active').length, 3)
})

t.test('clear removes what is of one key base, also what no sum knows of', async (t) => {
  const raw = rawClient(t)
  const keyBase = newKeyBase()
  // As patterns they would match each other.
  const bases = [`${keyBase}*`, `${keyBase}[x]`, `${keyBase}x`]
  const stores = await Promise.all(
    bases.map((base) => openRedisStore(t, [server], policyWith({}), { keyBase: base })),
  )
  const sessions = await Promise.all(stores.map((store) => opened(store)))
  await Promise.all(
    stores.map((store, index) => uploaded(store, sessions[index] ?? newSession(), 1)),
  )
  await raw.set(`${bases[0]}:{s:files:${mintSessionId()}}:u`, 'stray')
  await stores[0]?.clear()
  const kept = (await raw.keys('*')).filter((key) => key.startsWith(keyBase))
  t.strictSame(
    kept.filter((key) => key.startsWith(`${bases[0]}:{s:`)),
    [],
  )
  const views = await Promise.all(
    stores.map((store, index) => store.readSession(sessions[index] ?? newSession())),
  )
  t.strictSame(
    views.map((view) => view?.state),
    [undefined, 'active', 'active'],
  )
})

t.test('who asked is not called back, everybody else is', async (t) => {
  const keyBase = newKeyBase()
  const policy = policyWith({ idleTtlMs: 60_000, tombstoneTtlMs: 1e9 })
  let offsetMs = 0
  const options = { keyBase, clockOffset: () => offsetMs }
  const asking = await openRedisStore(t, [server], policy, options)
  const other = await openRedisStore(t, [server], policy, options)
  const foreign = await openRedisStore(t, [server], policy)
  const heard: string[] = []
  for (const [name, store] of Object.entries({ asking, other, foreign })) {
    store.onInvalidate(({ sessionId }) => heard.push(`${name} ${sessionId}`))
    store.onStreamOffered(({ sessionId }) => heard.push(`${name} offered ${sessionId}`))
  }
  const session = await opened(asking)
  const { sessionId } = session
  const hears = async (what: string, ...expected: readonly string[]): Promise<void> => {
    await eventually(what, () => heard.length >= expected.length)
    // A message that is not expected would have been published before this one.
    const marker = await opened(asking)
    await asking.closeSession(marker)
    await eventually('the marker', () => heard.includes(`other ${marker.sessionId}`))
    const before = heard.splice(0).filter((line) => !line.endsWith(marker.sessionId))
    t.strictSame(before.toSorted(), expected.toSorted(), what)
  }
  await asking.touchSessions([session])
  await uploaded(asking, session, 1)
  await hears('what changes no record')
  await asking.replaceUpstreamSession({ ...session, upstreamSessionId: 'b' }, 'upstream-1')
  await hears('a new upstream session', `other ${sessionId}`)
  const claim = await asking.claimStream(session, 'a', null)
  await hears('a stream that is claimed', `other ${sessionId}`)
  await asking.releaseStream(session, claim.ok ? claim.epoch : 0, 'hand_over')
  await hears('a stream that is handed over', `other offered ${sessionId}`)
  offsetMs += 60_001
  await asking.sweep(10, [], null)
  await hears('a tombstone', `asking ${sessionId}`, `other ${sessionId}`)
  await asking.reviveSession(session)
  await hears('a revival', `other ${sessionId}`)
  await asking.closeSession(session)
  await hears('the end', `other ${sessionId}`)
})

t.test('tokens of maintainers grow also when Redis was restarted empty', async (t) => {
  const own = await startRedis(t)
  const before = await (await openRedisStore(t, [own], policyWith({}))).electMaintainer('a', 1_000)
  await own.restart()
  const after = await (await openRedisStore(t, [own], policyWith({}))).electMaintainer('b', 1_000)
  t.ok(Number(after) > Number(before))
})

t.test('what spans sessions and was lost comes back with their use', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  const policy = policyWith({ maxActiveSessions: 3, maxTotalBytes: 100, idleTtlMs: 60_000 })
  let offsetMs = 0
  const store = await openRedisStore(t, [server], policy, { keyBase, clockOffset: () => offsetMs })
  const [touched, kept, held] = [await opened(store), await opened(store), await opened(store)]
  await uploaded(store, touched, 60)
  await reserved(store, kept, 30)
  const global = await raw.keys(`${keyBase}:{g}:*`)
  await raw.del(...global)
  t.strictSame(await store.touchSessions([touched]), ['upstream-1'])
  await store.keepAlive([{ key: kept, callLeases: [] }])
  t.match(await store.claimStream(held, 'a', null), { ok: true })
  t.match(await store.inventory(), { sessions: 3, uploads: 1, bytes: 60, reservedBytes: 30 })
  t.equal(await store.openSession(newSession()), 'at_capacity')
  t.match(await store.reserveBytes(held, 11), { reason: 'global_quota' })
  t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 0 })
  offsetMs += 60_001
  t.match(await store.sweep(10, [], null), { tombstonedSessions: 3 })
})

t.test('epochs grow on when what spans sessions was lost', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  const store = await openRedisStore(t, [server], policyWith({}), { keyBase })
  const session = await opened(store)
  for (const holder of ['a', 'b', 'c']) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.match(await store.claimStream(session, holder, null), { ok: true })
  }
  await raw.del(...(await raw.keys(`${keyBase}:{g}:*`)))
  const claim = await store.claimStream(session, 'd', null)
  t.match(claim, { ok: true, epoch: 4 })
  t.equal(await store.keepEvents(session, 4, ['event']), true)
  t.equal(await store.keepEvents(session, 2, ['late']), false)
  t.strictSame(await store.renewStreams('d', [{ key: session, epoch: 4 }]), [])
  t.strictSame(await store.takeEvents(session, 4), ['event'])
})

t.test('sessions that were lost are not counted any more after a repair', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  let offsetMs = 0
  const options = { keyBase, clockOffset: () => offsetMs }
  const store = await openRedisStore(t, [server], policyWith({}), options)
  const [lost, older] = [await opened(store), await opened(store)]
  await uploaded(store, lost, 60)
  await uploaded(store, older, 1)
  // What an asynchronous replica had when it became the master.
  const hash = await raw.hgetallBuffer(hashOf(keyBase, older))
  await uploaded(store, older, 10)
  const items = await raw.zrange(`${hashOf(keyBase, older)}:u`, '-1', '-1')
  await raw.hset(hashOf(keyBase, older), new Map(Object.entries(hash)))
  for (const suffix of [':i', ':z']) {
    // oxlint-disable-next-line no-await-in-loop -- two of them
    await raw.hdel(`${hashOf(keyBase, older)}${suffix}`, `u${items[0] ?? ''}`)
  }
  await raw.zrem(`${hashOf(keyBase, older)}:u`, ...items)
  const keys = await raw.keys(`${hashOf(keyBase, lost)}*`)
  await raw.del(...keys)
  t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 10 })
  t.match(await store.inventory(), { sessions: 2, bytes: 61 }, 'it may be on its way')
  offsetMs += 61_000
  t.strictSame(await store.repairCounters(null), { sessions: 1, bytes: 60 })
  t.match(await store.inventory(), { sessions: 1, bytes: 1, uploads: 1 })
})

t.test('a session that counts itself wrong is put right', async (t) => {
  const keyBase = newKeyBase()
  const raw = rawClient(t)
  const store = await openRedisStore(t, [server], policyWith({ maxSessionBytes: 100 }), { keyBase })
  const session = await opened(store)
  await uploaded(store, session, 10)
  await raw.hset(hashOf(keyBase, session), 'used', '90', 'arts', '7')
  await raw.hset(`${keyBase}:{g}:totals`, 'used', '1000000', 'pend', '3')
  t.strictSame(await store.repairCounters(null), { sessions: 0, bytes: 999_990 })
  t.match(await store.inventory(), { bytes: 10, artifacts: 0, pendingArtifacts: 0 })
  t.match(await store.reserveBytes(session, 90), { ok: true, evicted: [] })
})

t.test('failures of Redis are told apart from mistakes, without what was sent', async (t) => {
  const secret = 's3cret-passw0rd'
  const own = await startRedis(t, { args: ['--requirepass', secret] })
  const client = new Redis(own.port, '127.0.0.1', {
    password: secret,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    commandTimeout: 300,
    retryStrategy: () => 20,
  })
  client.on('error', () => undefined)
  t.teardown(() => client.disconnect())
  await eventually('it is connected', () => client.status === 'ready')
  const policy = policyWith({})
  const store = new BareRedisStore({ client, keyBase: 'k', policy, onWarning: () => undefined })
  const session = await opened(store)
  const fails = async (what: string, pattern: RegExp): Promise<void> => {
    const failure = await store.openSession(newSession({ upstreamSessionId: secret })).then(
      () => undefined,
      (error: Error) => error,
    )
    t.match(failure, { name: 'StoreUnavailableError', message: pattern }, what)
    t.notOk(JSON.stringify([failure, failure?.message, failure?.cause]).includes(secret), what)
  }
  await t.rejects(store.openSession(session), { name: 'Error' }, 'a mistake')
  await client.config('SET', 'maxmemory', '1')
  await fails('no memory left', /OOM/)
  t.match(await store.closeSession(session), { sessionId: session.sessionId }, 'what frees works')
  await client.config('SET', 'maxmemory', '0')
  await client.call('REPLICAOF', '127.0.0.1', '1')
  await fails('a follower', /READONLY|MASTERDOWN/)
  await client.call('REPLICAOF', 'NO', 'ONE')
  await opened(store)
  own.pause()
  await fails('no answer', /timed out/i)
  own.resume()
  await eventually('it answers again', () =>
    store.inventory().then(
      () => true,
      () => false,
    ),
  )
  const others = [1, 2].map(() => new Redis(own.port, '127.0.0.1', { password: secret }))
  const [author, killer] = others
  t.teardown(() => others.forEach((other) => other.disconnect()))
  await Promise.all(others.map((other) => other.ping()))
  await client.config('SET', 'lua-time-limit', '20')
  const busy = author?.eval('while true do end', 0).catch(() => undefined)
  const isBusy = (): Promise<boolean> =>
    store.inventory().then(
      () => false,
      (error: Error) => error.message.includes('BUSY'),
    )
  await eventually('the script runs', isBusy)
  await fails('a script of somebody runs', /BUSY/)
  await killer?.script('KILL')
  await busy
  await store.inventory()
  await own.stop()
  await fails('nobody there', /connection/i)
})

t.test('hot verbs take one command that is waited for', async (t) => {
  const raw = rawClient(t)
  const store = await openRedisStore(t, [server], policyWith({ maxInFlightPerSession: 5 }))
  const session = await opened(store)
  const verbs = {
    read: () => store.readSession(session),
    enter: () => store.enterCalls(session, 'a', 1, 0),
    leave: () => store.leaveCalls(session, 'a'),
    nonce: () => store.isNonceUsed(session, 'n'),
  }
  for (const verb of Object.values(verbs)) {
    // oxlint-disable-next-line no-await-in-loop -- so that their scripts are there
    await verb()
  }
  for (const [name, verb] of Object.entries(verbs)) {
    // oxlint-disable no-await-in-loop -- one after the other
    await raw.config('RESETSTAT')
    await verb()
    const stats = await raw.info('commandstats')
    // oxlint-enable no-await-in-loop
    t.match(stats, /cmdstat_evalsha:calls=1,/, name)
    t.notMatch(stats, /cmdstat_eval:/, name)
  }
})
