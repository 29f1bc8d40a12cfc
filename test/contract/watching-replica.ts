/** As much of a replica as others notice: its beats and its subscription. As a process of its own it takes its connection (JSON) and its id as arguments. */
import { fileURLToPath } from 'node:url'

import { ChangeFeed } from '../../src/shared/state/redis/change-feed.ts'
import { changeChannel } from '../../src/shared/state/redis/changes.ts'
import { openCommands, openSubscriber } from '../../src/shared/state/redis/connection.ts'
import type { RedisConnectionOptions } from '../../src/shared/state/redis/connection.ts'
import { ReplicaWatch } from '../../src/shared/state/redis/replica-watch.ts'

export const KEY_BASE = 'watched'

/** A replica in this process, and what it heard. */
export interface WatchingReplica {
  readonly feed: ChangeFeed
  readonly lost: string[]
  readonly flows: boolean[]
  readonly messages: string[]
  replicas: readonly string[]
  hops: ReadonlyMap<string, string>
  dataLosses: number
  /** How often it began to ask who is subscribed; one question waits for the answer to the one before. */
  looks: number
  /** In order, so that nobody takes it for a crash. */
  stop(): Promise<void>
  /** At once; resolves when the connections are closed. */
  drop(): void
}

/** Connection options for a plain server on this machine. */
export function connectionTo(
  port: number,
  changes: Partial<RedisConnectionOptions> = {},
): RedisConnectionOptions {
  return {
    target: { kind: 'single', node: { host: '127.0.0.1', port } },
    db: 0,
    username: null,
    password: null,
    tls: null,
    commandTimeoutMs: 1_000,
    connectTimeoutMs: 1_000,
    ...changes,
  }
}

/** Starts one in this process. */
export function watchReplica(
  id: string,
  connection: RedisConnectionOptions,
  hopUrl: string | null = null,
): WatchingReplica {
  const client = openCommands(connection, ignore)
  const replica: WatchingReplica = {
    feed: new ChangeFeed({
      connect: (attempt) => openSubscriber(connection, attempt),
      changes: changeChannel(KEY_BASE),
      beats: ReplicaWatch.channelOf(KEY_BASE, id),
      onMessage: (message) => replica.messages.push(message),
      onFlow: (flows) => replica.flows.push(flows),
      onError: ignore,
    }),
    lost: [],
    flows: [],
    messages: [],
    replicas: [],
    hops: new Map(),
    dataLosses: 0,
    looks: 0,
    async stop() {
      await watch.stop()
      replica.drop()
    },
    drop() {
      watch.abandon()
      replica.feed.stop()
      client.disconnect()
    },
  }
  const watch = new ReplicaWatch({
    client: new Proxy(client, {
      get(target, name) {
        if (name === 'pubsub') replica.looks++
        const found: unknown = Reflect.get(target, name)
        return typeof found === 'function' ? found.bind(target) : found
      },
    }),
    replicaId: id,
    keyBase: KEY_BASE,
    hopUrl,
    countsSubscribers: connection.target.kind !== 'cluster',
    subscription: () => (replica.feed.flows ? replica.feed.generation : null),
    onLost: (ids) => replica.lost.push(...ids),
    onReplicas: (ids, hops) => {
      replica.replicas = ids
      replica.hops = hops
    },
    onError: ignore,
    onDataLost: () => {
      replica.dataLosses++
    },
  })
  replica.feed.start()
  watch.start()
  return replica
}

function ignore(): void {}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , connection = '', id = ''] = process.argv
  const options: RedisConnectionOptions = JSON.parse(connection) // what the test passes
  const replica = watchReplica(id, options)
  process.once('SIGTERM', () => void replica.stop())
}
