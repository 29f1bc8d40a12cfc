import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MessageChannel, Worker } from 'node:worker_threads'

import t from 'tap'
import type { Test } from 'tap'

import { openLocalStore } from '../../src/shared/state/open.ts'
import type { LocalStoreOptions } from '../../src/shared/state/open.ts'
import type { SessionKey } from '../../src/shared/state/records.ts'
import { RemoteStore } from '../../src/shared/state/remote.ts'
import type { StateThreadCommand, StateThreadEvent } from '../../src/shared/state/state-thread.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import { eventually, within } from '../support/eventually.ts'
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

const THREAD = new URL('../../src/shared/state/state-thread.js', import.meta.url)

/** How many times each race is run. */
const ROUNDS = 60

interface RunningThread {
  readonly worker: Worker
  readonly events: readonly StateThreadEvent[]
  readonly connect: () => RemoteStore
}

function optionsIn(directory: string, changes: Partial<LocalStoreOptions>): LocalStoreOptions {
  return {
    type: 'memory',
    path: join(directory, 'state.sqlite3'),
    walEnabled: true,
    snapshotPath: null,
    snapshotIntervalMs: 60_000,
    refreshOnStartup: false,
    policy: policyWith({}),
    ...changes,
  }
}

function temporary(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'state-thread-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  return directory
}

/** Starts the thread and waits for its first event. */
async function start(t: Test, options: LocalStoreOptions): Promise<RunningThread> {
  const worker = new Worker(THREAD, { workerData: options })
  const events: StateThreadEvent[] = []
  worker.on('message', (event: StateThreadEvent) => events.push(event))
  const stores: RemoteStore[] = []
  t.teardown(async () => {
    await Promise.all(stores.map((store) => store.close()))
    await worker.terminate()
  })
  await within('the first event of the thread', once(worker, 'message'))
  return {
    worker,
    events,
    connect() {
      const store = new RemoteStore(portTo(worker))
      stores.push(store)
      return store
    },
  }
}

function portTo(worker: Worker): MessageChannel['port1'] {
  const { port1, port2 } = new MessageChannel()
  command(worker, { kind: 'connect', port: port2 })
  return port1
}

function command(worker: Worker, message: StateThreadCommand): void {
  worker.postMessage(message, message.kind === 'connect' ? [message.port] : [])
}

/** A thread and three stores that reach it over ports of their own. */
async function rivals(
  t: Test,
  policy: Partial<StorePolicy>,
): Promise<readonly [RemoteStore, RemoteStore, RemoteStore]> {
  const thread = await start(t, optionsIn('', { policy: policyWith(policy) }))
  return [thread.connect(), thread.connect(), thread.connect()]
}

/** Runs a race many times, one round after the other. */
async function rounds(race: (round: number) => Promise<void>): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    // oxlint-disable-next-line no-await-in-loop -- rounds must not overlap
    await race(round)
  }
}

t.test('of several clients that race for the last thing of its kind, one gets it', async (t) => {
  await t.test('the last session slots', async (t) => {
    const stores = await rivals(t, { maxActiveSessions: 4 })
    await rounds(async () => {
      const sessions = Array.from({ length: 9 }, () => newSession())
      const outcomes = await Promise.all(
        sessions.map((session, i) => pick(stores, i).openSession(session)),
      )
      t.equal(outcomes.filter((outcome) => outcome === 'opened').length, 4)
      t.equal((await stores[0].inventory()).sessions, 4)
      await Promise.all(sessions.map((session, i) => pick(stores, i + 1).closeSession(session)))
    })
    t.match(await stores[0].inventory(), { sessions: 0 })
  })

  await t.test('the last bytes of a session and of all', async (t) => {
    const stores = await rivals(t, { maxSessionBytes: 100, maxTotalBytes: 150 })
    await rounds(async () => {
      const sessions = [await opened(stores[0]), await opened(stores[1])] as const
      const outcomes = await Promise.all(
        Array.from({ length: 12 }, (_, i) =>
          pick(stores, i).reserveBytes(i % 2 === 0 ? sessions[0] : sessions[1], 25),
        ),
      )
      const granted = outcomes.filter(({ ok }) => ok)
      t.equal(granted.length, 6)
      t.equal((await stores[2].inventory()).reservedBytes, 150)
      await Promise.all(sessions.map((session) => stores[2].closeSession(session)))
    })
    t.match(await stores[0].inventory(), { bytes: 0, reservedBytes: 0 })
  })

  await t.test('a nonce', async (t) => {
    const stores = await rivals(t, {})
    const session = await opened(stores[0])
    await rounds(async (round) => {
      const nonce = { value: `nonce-${round}`, expiresAtMs: Date.now() + 60_000 }
      const outcomes = await Promise.all(
        stores.map(async (store) => {
          const { reservationId } = await reserved(store, session, 1)
          const outcome = await store.commitUploads(session, reservationId, [newUpload(1)], nonce)
          if (!outcome.ok) await store.releaseBytes(session, reservationId)
          return outcome.ok ? 'ok' : outcome.reason
        }),
      )
      t.strictSame(outcomes.toSorted(), ['nonce_used', 'nonce_used', 'ok'])
    })
    t.match(await stores[0].inventory(), { uploads: ROUNDS, bytes: ROUNDS, reservedBytes: 0 })
  })

  await t.test('an artifact slot, and the commit of one artifact', async (t) => {
    const stores = await rivals(t, { maxArtifactsPerSession: 2 })
    await rounds(async () => {
      const session = await opened(stores[0])
      const artifacts = Array.from({ length: 6 }, () => newArtifact())
      const outcomes = await Promise.all(
        artifacts.map((artifact, i) => pick(stores, i).allocateArtifact(session, artifact)),
      )
      t.equal(outcomes.filter((outcome) => outcome === 'allocated').length, 2)
      const id = artifacts[outcomes.indexOf('allocated')]?.artifactId
      if (id === undefined) throw new Error('none was allocated')
      const commits = await Promise.all(
        stores.map((store) => store.commitArtifact(session, id, finalOf(3))),
      )
      t.equal(commits.filter(({ ok }) => ok).length, 1)
      t.equal((await stores[1].inventory()).bytes, 3)
      await stores[2].closeSession(session)
    })
  })

  await t.test('the replacement of a lost upstream session, and the close', async (t) => {
    const stores = await rivals(t, {})
    await rounds(async () => {
      const session = await opened(stores[0])
      const replaced = await Promise.all(
        stores.map((store, i) =>
          store.replaceUpstreamSession({ ...session, upstreamSessionId: `new-${i}` }, 'upstream-1'),
        ),
      )
      t.equal(replaced.filter(Boolean).length, 1)
      const closed = await Promise.all(stores.map((store) => store.closeSession(session)))
      t.equal(closed.filter((record) => record !== undefined).length, 1)
    })
  })
})

t.test('a change is called out to every client but the one that made it', async (t) => {
  const stores = await rivals(t, { idleTtlMs: 3_600_000 })
  const heard: SessionKey[][] = [[], [], []]
  for (const [i, store] of stores.entries()) store.onInvalidate((key) => heard[i]?.push(key))
  const { serverId, sessionId, ...rest } = await opened(stores[0])
  const key = { serverId, sessionId }
  t.equal(
    await stores[0].replaceUpstreamSession(
      { ...rest, ...key, upstreamSessionId: 'next' },
      'upstream-1',
    ),
    true,
  )
  await eventually('both others heard of the replacement', () => heard.flat().length === 2)
  t.strictSame(heard, [[], [key], [key]])
  await stores[1].closeSession(key)
  await eventually('both others heard of the close', () => heard.flat().length === 4)
  t.strictSame(heard, [[key], [key], [key, key]])

  await stores[1].closeSession(key)
  const other = await opened(stores[1])
  await stores[1].touchSessions([other])
  await stores[2].clear()
  await eventually('all heard of the clear', () => heard.flat().length === 7)
  t.strictSame(
    heard.map((keys) => keys.at(-1)?.sessionId),
    [other.sessionId, other.sessionId, other.sessionId],
  )
})

t.test('a record comes through the port as it was, a mistake as a plain error', async (t) => {
  const [store] = await rivals(t, {})
  const session = await opened(store)
  t.strictSame((await store.readSession(session))?.record, session)
  await t.rejects(store.openSession(session), { name: 'Error', message: /exists/ })
  await t.rejects(store.reserveBytes(session, -1), { name: 'Error' })
})

t.test('a stop answers what was asked before, takes a snapshot, and ends the thread', async (t) => {
  const options = optionsIn(temporary(t), {})
  const snapshotPath = join(options.path, '..', 'snapshot.sqlite3')
  const { worker, connect, events } = await start(t, { ...options, snapshotPath })
  const store = connect()
  const session = await opened(store)
  const upload = uploaded(store, session, 5)
  const asked = upload.then(() => Promise.all([store.inventory(), opened(store)]))
  await upload
  // In the same turn: the requests leave first, the stop right behind them.
  await new Promise((resolve) => setImmediate(resolve))
  command(worker, { kind: 'stop' })
  const [code] = await within('the end of the thread', once(worker, 'exit'))
  t.equal(code, 0)
  const [inventory] = await asked
  t.match(inventory, { uploads: 1 })
  t.strictSame(events, [{ kind: 'ready' }])
  await t.rejects(store.inventory(), { name: 'StoreUnavailableError' })
  const again = openLocalStore({ ...options, snapshotPath })
  t.teardown(() => again.close())
  t.match(await again.inventory(), { sessions: 2, uploads: 1, bytes: 5 })
})

t.test('a thread that cannot open its store says why and ends', async (t) => {
  const options = optionsIn(temporary(t), { type: 'disk' })
  const holder = openLocalStore(options)
  t.teardown(() => holder.close())
  const worker = new Worker(THREAD, { workerData: options })
  const [event] = await within('its event', once(worker, 'message'))
  t.match(event, { kind: 'failed', message: /in use by process/ })
  await within('its end', once(worker, 'exit'))
})

t.test('what was noticed while opening comes after the news that it is open', async (t) => {
  const options = optionsIn(temporary(t), {})
  const { writeFileSync } = await import('node:fs')
  const snapshotPath = join(options.path, '..', 'snapshot.sqlite3')
  writeFileSync(snapshotPath, 'no snapshot'.repeat(1_000))
  const { events } = await start(t, { ...options, snapshotPath })
  await eventually('the warning', () => events.length === 2)
  t.match(events, [{ kind: 'ready' }, { kind: 'warning', message: /snapshot\.sqlite3/ }])
  t.notOk(existsSync(snapshotPath))
})

t.test('when the thread dies clients are told, and go on with the next one', async (t) => {
  const options = optionsIn(temporary(t), { type: 'disk' })
  const first = await start(t, options)
  const store = first.connect()
  let disconnects = 0
  store.onDisconnect(() => disconnects++)
  const session = await opened(store)
  const pending = store.inventory().then(
    () => 'answered',
    (error: unknown) => error,
  )
  await first.worker.terminate()
  await eventually('the disconnect', () => disconnects === 1)
  const outcome = await pending
  if (outcome !== 'answered') t.match(outcome, { name: 'StoreUnavailableError' })
  await t.rejects(store.inventory(), { name: 'StoreUnavailableError' })

  const second = await start(t, options)
  t.strictSame(second.events, [{ kind: 'ready' }])
  store.reconnect(portTo(second.worker))
  t.strictSame((await store.readSession(session))?.record, session)
  t.equal(disconnects, 1)
})

t.test('a store that does not answer is given up after a while', async (t) => {
  const { port1, port2 } = new MessageChannel()
  t.teardown(() => port2.close())
  const store = new RemoteStore(port1, { timeoutMs: 30 })
  const startedAt = performance.now()
  const first = t.rejects(store.inventory(), {
    name: 'StoreUnavailableError',
    message: /within 30 ms/,
  })
  await eventually('some time', () => performance.now() - startedAt > 15)
  const second = t.rejects(store.inventory(), { message: /within 30 ms/ })
  await Promise.all([first, second])
  t.ok(performance.now() - startedAt >= 45, 'each request has its own time')
  await store.close()
})

t.test('requests beyond what may wait are refused at once', async (t) => {
  const { port1, port2 } = new MessageChannel()
  t.teardown(() => port2.close())
  const store = new RemoteStore(port1)
  const waiting: Promise<unknown>[] = []
  for (let i = 0; i < 65_536; i++) waiting.push(store.inventory())
  await t.rejects(store.inventory(), { message: /too many requests/ })
  const gone = Promise.allSettled(waiting)
  port2.close()
  t.ok((await gone).every(({ status }) => status === 'rejected'))
})

t.test('a port that comes after the store was closed is closed', async (t) => {
  const { port1 } = new MessageChannel()
  const store = new RemoteStore(port1)
  await store.close()
  const late = new MessageChannel()
  store.reconnect(late.port1)
  await within('the close', once(late.port2, 'close'))
  await t.rejects(store.inventory(), { name: 'StoreUnavailableError' })
})

function pick(stores: readonly [RemoteStore, RemoteStore, RemoteStore], i: number): RemoteStore {
  return stores[i % 3] ?? stores[0]
}
