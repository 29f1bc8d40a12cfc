import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MessageChannel } from 'node:worker_threads'

import t from 'tap'
import type { Test } from 'tap'

import { StoreHost } from '../../src/shared/state/host.ts'
import { openLocalStore } from '../../src/shared/state/open.ts'
import type { LocalStoreOptions } from '../../src/shared/state/open.ts'
import { RemoteStore } from '../../src/shared/state/remote.ts'
import type { SqlStore } from '../../src/shared/state/sql-store.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import { stateStoreContract } from './state-store.contract.ts'

/** Where the clock of every store under test begins, in Unix milliseconds. */
const START_MS = 1_000_000

interface Opened {
  readonly store: SqlStore
  readonly advance: (ms: number) => void
}

function open(t: Test, policy: StorePolicy, changes: Partial<LocalStoreOptions>): Opened {
  const directory = mkdtempSync(join(tmpdir(), 'state-contract-'))
  let nowMs = START_MS
  const options: LocalStoreOptions = {
    type: 'disk',
    path: join(directory, 'state.sqlite3'),
    walEnabled: true,
    snapshotPath: null,
    snapshotIntervalMs: 60_000,
    refreshOnStartup: false,
    policy,
    ...changes,
  }
  const store = openLocalStore(options, { clock: () => nowMs })
  t.teardown(async () => {
    await store.close()
    rmSync(directory, { recursive: true })
  })
  return {
    store,
    advance(ms) {
      nowMs += ms
    },
  }
}

t.test('in memory', async (t) => {
  stateStoreContract(t, async (t, policy) => open(t, policy, { type: 'memory' }))
})

t.test('on disk with a write-ahead log', async (t) => {
  stateStoreContract(t, async (t, policy) => open(t, policy, {}))
})

t.test('on disk without a write-ahead log', async (t) => {
  stateStoreContract(t, async (t, policy) => open(t, policy, { walEnabled: false }))
})

t.test('behind a message port', async (t) => {
  stateStoreContract(t, async (t, policy) => {
    const { store: local, advance } = open(t, policy, { type: 'memory' })
    const host = new StoreHost(local)
    const { port1, port2 } = new MessageChannel()
    host.connect(port2)
    const store = new RemoteStore(port1)
    t.teardown(() => host.close())
    return { store, advance }
  })
})
