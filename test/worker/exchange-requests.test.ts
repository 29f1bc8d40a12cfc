// What is refused of request bodies because the upstream could read them otherwise or nobody could write them again; sessions that are busy while their copies go stale.
import t from 'tap'

import { mintSessionId } from '../../src/shared/ids.ts'
import type { SessionKey, SessionRecord } from '../../src/shared/state/records.ts'
import type { SessionView, StateStore } from '../../src/shared/state/store.ts'
import { refuseAmbiguity } from '../../src/worker/exchange/ambiguity.ts'
import { readEnvelope } from '../../src/worker/exchange/json-rpc.ts'
import { SessionRegistry } from '../../src/worker/session/registry.ts'
import { ANYBODYS } from '../support/anybodys.ts'

const CALL = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}'

t.test('a message that two readers may understand differently is refused', (t) => {
  const refused = [
    CALL.replace('"name":"a"', '"name":"danger","name":"a"'),
    CALL.replace('"name":"a"', String.raw`"name":"danger","n\u0061me":"a"`),
    CALL.replace('"name":"a"', '"Name":"danger","name" \n : "a"'),
    CALL.replace('"name":"a"', String.raw`"x":"}\\\"","NAM\u0045":"danger","name":"a"`),
    CALL.replace('"arguments"', '"argumentſ"'),
    CALL.replace('"arguments":{}', '"arguments":{},"arguments":{"a":1}'),
    CALL.replace('"params"', '"params":{"name":"danger"},"params"'),
    CALL.replace('"params"', '"Params":{"name":"danger"},"params"'),
    CALL.replace('"tools/call"', '"tools/call","method":"ping"'),
    CALL.replace('"method"', '"METHOD"'),
    CALL.replace('"id"', '"ID":2,"id"'),
  ]
  for (const text of refused) {
    const why = { code: 'ADAPTER_INVALID_REQUEST' }
    t.doesNotThrow(() => JSON.parse(text))
    t.throws(() => refuseAmbiguity(text, false), why, text)
    t.throws(() => refuseAmbiguity(Buffer.from(text), false), why, text)
    t.throws(() => refuseAmbiguity(`[${CALL}, ${text}]`, true), why, text)
  }
  t.end()
})

t.test('keys that are the upstream’s business pass', (t) => {
  const passed = [
    CALL,
    CALL.replace('{}', '{"Name":1,"name":2,"name":3,"params":{"x":[{"a":1},{"a":1}]}}'),
    CALL.replace('"name":"a"', String.raw`"name":"name\\","_meta":{"Name":"x"},"id":1,"ID":2`),
    CALL.replace('"params":{', '"x":{"name":1,"name":2},"y":["method","method"],"params":{'),
    '{"jsonrpc":"2.0","id":1,"result":{"name":1,"Name":2}}',
  ]
  for (const text of passed) {
    t.doesNotThrow(() => refuseAmbiguity(text, false), text)
    t.doesNotThrow(() => refuseAmbiguity(Buffer.from(text), false), text)
  }
  t.doesNotThrow(() => refuseAmbiguity(` [${passed.join(' ,')}]`, true))
  t.end()
})

t.test('nesting is bounded however small the body is', (t) => {
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    const nested = (depth: number): string =>
      CALL.replace('{}', `{"a":${open.repeat(depth)}1${close.repeat(depth)}}`)
    t.ok(readEnvelope(nested(500)))
    for (const depth of [600, 5_000]) {
      const why = { code: 'ADAPTER_INVALID_REQUEST' }
      t.throws(() => readEnvelope(nested(depth)), why)
      t.throws(() => readEnvelope(Buffer.from(nested(depth))), why)
    }
  }
  t.ok(readEnvelope(CALL.replace('{}', `[${'[],'.repeat(2_000)}"[["]`)), 'wide is not deep')
  t.end()
})

/** A store of one session that tells of changes when it is asked to. */
function storeOf(record: SessionRecord) {
  let view: SessionView | undefined = {
    record,
    state: 'active',
    lastAccessedAtMs: 0,
    terminalReason: null,
    drift: null,
  }
  let invalidated: ((key: SessionKey) => void) | undefined
  const store = {
    onInvalidate: (listener: (key: SessionKey) => void) => {
      invalidated = listener
    },
    onAnnounced: () => {},
    readSession: () => Promise.resolve(view),
    touchSessions: (keys: readonly SessionKey[]) =>
      Promise.resolve(keys.map(() => view?.record.upstreamSessionId)),
    replaceUpstreamSession: () => Promise.resolve(false),
  }
  return {
    // As much of a store as the registry asks here.
    store: store as unknown as StateStore,
    change: (next: SessionRecord | undefined): void => {
      view = next && {
        record: next,
        state: 'active',
        lastAccessedAtMs: 0,
        terminalReason: null,
        drift: null,
      }
      invalidated?.(record)
    },
  }
}

const RECORD: SessionRecord = {
  schemaVersion: 1,
  serverId: 's',
  sessionId: mintSessionId(),
  createdAtMs: 1,
  protocolVersion: '2025-11-25',
  upstreamSessionId: 'one',
  initializeParams: {},
  upstreamHas: { tools: true, resources: false },
}

t.test('a busy session stays one object while its record is read again', async (t) => {
  const { store, change } = storeOf(RECORD)
  const registry = new SessionRegistry(store, {
    idleTtlMs: null,
    copyLeaseMs: null,
    owners: ANYBODYS,
  })
  t.teardown(() => registry.stop())
  const session = await registry.find('s', RECORD.sessionId, '')
  const changes: readonly (readonly [upstreamSessionId: string, change: () => void])[] = [
    ['two', () => change({ ...RECORD, upstreamSessionId: 'two' })],
    ['two', () => registry.forgetAll()],
  ]
  session.inFlight = 1
  for (const [upstreamSessionId, make] of changes) {
    make()
    t.equal(registry.peek('s', RECORD.sessionId, ''), undefined, 'the copy is not trusted')
    t.same(registry.busyKeys(), [session.key])
    t.equal(await registry.find('s', RECORD.sessionId, ''), session)
    t.equal(session.record.upstreamSessionId, upstreamSessionId)
    t.equal(registry.peek('s', RECORD.sessionId, ''), session)
  }
  t.ok(session.hasNewUpstream)
  t.notOk(await registry.replaceUpstream(session, RECORD, 'other'))
  t.equal(await registry.find('s', RECORD.sessionId, ''), session)

  session.inFlight = 0
  registry.forgetAll()
  t.not(await registry.find('s', RECORD.sessionId, ''), session, 'nothing ran in it')
})

t.test('a busy session that another party ended is not used again', async (t) => {
  const { store, change } = storeOf(RECORD)
  const registry = new SessionRegistry(store, {
    idleTtlMs: null,
    copyLeaseMs: null,
    owners: ANYBODYS,
  })
  t.teardown(() => registry.stop())
  const session = await registry.find('s', RECORD.sessionId, '')
  session.inFlight = 1
  change(undefined)
  await t.rejects(registry.find('s', RECORD.sessionId, ''), { code: 'ADAPTER_SESSION_UNKNOWN' })
  t.same(registry.busyKeys(), [])
})
