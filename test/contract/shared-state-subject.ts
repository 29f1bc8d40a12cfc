/** The shared state of a replica, in this process, and what it said. */
import { MessageChannel } from 'node:worker_threads'

import type { Test } from 'tap'

import { mintReplicaId } from '../../src/shared/ids.ts'
import type { RedisConnectionOptions } from '../../src/shared/state/redis/connection.ts'
import { SharedState } from '../../src/shared/state/redis/shared-state.ts'
import type { SharedStateReport } from '../../src/shared/state/redis/shared-state.ts'
import { RemoteStore } from '../../src/shared/state/remote.ts'
import type { RedisStateOptions } from '../../src/shared/state/state-options.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import { policyWith } from './store-fixtures.ts'

/** Everything that can be chosen. */
export interface SharedSubject {
  readonly connection: RedisConnectionOptions
  readonly keyBase: string
  readonly policy?: StorePolicy
  readonly unavailablePolicy?: RedisStateOptions['unavailablePolicy']
  readonly refreshOnStartup?: boolean
  readonly unavailableAfterMs?: number
  readonly frozenClock?: () => number
}

/** See the file comment. */
export interface RunningState {
  readonly id: string
  readonly state: SharedState
  readonly warnings: string[]
  readonly failures: string[]
  report(): SharedStateReport
  /** Another port, as another thread would have. */
  connect(): RemoteStore
  stop(): Promise<void>
}

/** Starts one; it is stopped when `t` ends. */
export async function startState(t: Test, subject: SharedSubject): Promise<RunningState> {
  const { frozenClock, policy = policyWith({}), unavailableAfterMs = 500, ...rest } = subject
  const id = mintReplicaId()
  const warnings: string[] = []
  const failures: string[] = []
  let last: SharedStateReport | undefined
  const options: RedisStateOptions = {
    type: 'redis',
    pingMs: 1_000,
    unavailablePolicy: 'fail_closed',
    refreshOnStartup: false,
    ...rest,
    unavailableAfterMs,
    policy,
    fallback: {
      type: 'memory',
      path: '',
      walEnabled: false,
      snapshotPath: null,
      snapshotIntervalMs: 60_000,
      refreshOnStartup: false,
      policy,
    },
  }
  const state = new SharedState(
    { ...options, replicaId: id },
    {
      onReport: (report) => {
        last = report
      },
      onWarning: (message) => warnings.push(message),
      onFailure: (message) => failures.push(message),
      onRecovered: () => {},
    },
    frozenClock === undefined ? {} : { frozenClock },
  )
  const stores: RemoteStore[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(stores.map((store) => store.close()))
    await state.stop()
  }
  t.teardown(stop)
  await state.start()
  return {
    id,
    state,
    warnings,
    failures,
    report() {
      if (last === undefined) throw new Error('nothing was reported')
      return last
    },
    connect() {
      const { port1, port2 } = new MessageChannel()
      state.host.connect(port2)
      const store = new RemoteStore(port1)
      stores.push(store)
      return store
    },
    stop,
  }
}
