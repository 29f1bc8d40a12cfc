/**
 * Knows which replicas there are, and notices soon when one ends without a word. Each has an entry in Redis that it renews, and is subscribed to a
 * channel of its own: the kernel closes that connection when the process dies, however it dies, so a channel without a subscriber is the earliest
 * sign. Where that can't be asked (a Cluster answers for one of its members only) the entries alone decide.
 */
import { randomUUID } from 'node:crypto'

import type { RedisClient } from './connection.ts'
import { RedisKeys } from './keys.ts'
import { runText, script } from './script.ts'

/** Milliseconds between two renewals of the own entry. */
const BEAT_MS = 500
/**
 * Milliseconds between two questions whether the others are still subscribed. The question is one cheap command, and half of this is what an upstream
 * goes without a stream on average before anybody knows: a ping that it sends meanwhile is lost.
 */
const LOOK_MS = 50
/** A channel that had no subscriber is looked at again after this, in milliseconds: a connection may have been replaced just then. */
const SECOND_LOOK_MS = 50
/** An entry that was not renewed for this long, in milliseconds, is that of a dead replica. */
export const REPLICA_LEASE_MS = 3_000
/** A dead replica's entry goes after this, in milliseconds. */
const FORGET_MS = 60_000

/**
 * Renews the own entry at the server's time, so that the replicas' clocks don't matter; answers that time, all entries with theirs, a mark that is lost
 * with the data, and where the replicas can be reached by each other.
 */
const BEAT = script(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local entries, mark, hops = KEYS[1] .. ':replicas', KEYS[1] .. ':mark', KEYS[1] .. ':hops'
redis.call('ZADD', entries, now, ARGV[1])
redis.call('PEXPIRE', entries, ARGV[2])
if ARGV[4] ~= '' then
  redis.call('HSET', hops, ARGV[1], ARGV[4])
  redis.call('PEXPIRE', hops, ARGV[2])
end
local old = redis.call('ZRANGEBYSCORE', entries, '-inf', now - ARGV[2])
for _, id in ipairs(old) do
  redis.call('ZREM', entries, id)
  redis.call('HDEL', hops, id)
end
redis.call('SET', mark, ARGV[3], 'NX')
return { string.format('%.0f', now), redis.call('ZRANGE', entries, 0, -1, 'WITHSCORES'), redis.call('GET', mark), redis.call('HGETALL', hops) }
`)

/** What a watch works with. */
export interface ReplicaWatchParts {
  readonly client: RedisClient
  readonly replicaId: string
  readonly keyBase: string
  /** Where other replicas reach this one; null where they need not. */
  readonly hopUrl: string | null
  /** Whether subscribers can be counted: one server has all of them. */
  readonly countsSubscribers: boolean
  /** Which subscription the own channel has at present; null while it has none. */
  readonly subscription: () => number | null
  /** Hears once of each replica that ended without a word. */
  readonly onLost: (ids: readonly string[]) => void
  /** Hears of every change of who is there, this replica included, and of where they are reached. */
  readonly onReplicas: (ids: readonly string[], hops: ReadonlyMap<string, string>) => void
  /** Hears of a renewal that failed. */
  readonly onError: (error: Error) => void
  /** Hears that the server has forgotten everything since the last renewal. */
  readonly onDataLost: () => void
}

/** See the file comment. */
export class ReplicaWatch {
  readonly #parts: ReplicaWatchParts
  readonly #globalKey: string
  /** Others that are there. */
  #others: ReadonlySet<string> = new Set()
  /** Where replicas are reached, as far as they say. */
  #hops: ReadonlyMap<string, string> = new Map()
  #told = ''
  /** Dead ones that were told of, with when they were last renewed. */
  readonly #lost = new Map<string, number>()
  #mark: string | undefined
  #beatenAtMs: number | undefined
  #trustLatenessFromMs = 0
  /** Channels that had a subscriber since the present connections were made. */
  readonly #seen = new Set<string>()
  #seenThrough: string | undefined
  #trustCountsFromMs = 0
  #connections = 0
  #beatTimer: NodeJS.Timeout | undefined
  #lookTimer: NodeJS.Timeout | undefined
  #isLooking = false
  #stopped = false

  constructor(parts: ReplicaWatchParts) {
    this.#parts = parts
    this.#globalKey = new RedisKeys(parts.keyBase).global
    parts.client.on('ready', () => {
      this.#connections++
    })
  }

  /** The channel that a replica is subscribed to for as long as it lives. */
  static channelOf(keyBase: string, replicaId: string): string {
    return `${keyBase}:replica:${replicaId}`
  }

  /** Asks, for somebody who does not take part, which replicas are there now. Rejects when the store fails. */
  static async present(client: RedisClient, keyBase: string): Promise<readonly string[]> {
    const entries = `${new RedisKeys(keyBase).global}:replicas`
    const [seconds] = await client.time()
    return client.zrangebyscore(entries, Number(seconds) * 1_000 - REPLICA_LEASE_MS, '+inf')
  }

  start(): void {
    this.#beatTimer = setInterval(() => void this.#beatQuietly(), BEAT_MS)
    if (this.#parts.countsSubscribers) {
      this.#lookTimer = setInterval(() => void this.#look(), LOOK_MS)
    }
    void this.#beatQuietly()
  }

  /** Renews the own entry and learns who else is there. Rejects when the store fails. */
  async beat(): Promise<void> {
    const { client, replicaId, keyBase, hopUrl } = this.#parts
    const beats = ReplicaWatch.channelOf(keyBase, replicaId)
    const [answer] = await Promise.all([
      runText(client, BEAT, this.#beatKeys, [replicaId, FORGET_MS, randomUUID(), hopUrl ?? '']),
      client.publish(beats, ''),
    ])
    if (!this.#stopped) this.#learn(parseBeat(answer))
  }

  /** Takes the own entry away, so that nobody takes the end of this process for a crash. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#beatTimer)
    clearInterval(this.#lookTimer)
    const { client, replicaId } = this.#parts
    await Promise.all([
      client.zrem(this.#entriesKey, replicaId),
      client.hdel(this.#hopsKey, replicaId),
    ])
  }

  /** Stops without a word, because there is nobody to say it to. */
  abandon(): void {
    this.#stopped = true
    clearInterval(this.#beatTimer)
    clearInterval(this.#lookTimer)
  }

  async #beatQuietly(): Promise<void> {
    try {
      await this.beat()
    } catch (error) {
      if (!this.#stopped) this.#parts.onError(toError(error))
    }
  }

  #learn({ nowMs, entries, mark, hops }: Beat): void {
    const alive = new Set<string>()
    const late = new Map<string, number>()
    const believesLateness = this.#believesLateness()
    for (const [id, renewedAtMs] of entries) {
      if (id === this.#parts.replicaId) continue
      const isLate = nowMs - renewedAtMs > REPLICA_LEASE_MS
      if (isLate && believesLateness) late.set(id, renewedAtMs)
      else if (isLate && this.#others.has(id)) alive.add(id)
      else if (isLate) continue
      // One that renews its entry after all was only paused, or not connected.
      else if (renewedAtMs > (this.#lost.get(id) ?? 0)) alive.add(id)
    }
    for (const id of this.#lost.keys()) {
      if (alive.has(id) || !entries.has(id)) this.#lost.delete(id)
    }
    this.#others = alive
    this.#hops = hops
    this.#lose(late)
    this.#tell()
    const knownMark = this.#mark
    this.#mark = mark
    if (knownMark !== undefined && knownMark !== mark) this.#parts.onDataLost()
  }

  /** When this one could not renew its entry, neither could the others: they get a lease's time to do it first. */
  #believesLateness(): boolean {
    const atMs = performance.now()
    const beforeMs = this.#beatenAtMs
    this.#beatenAtMs = atMs
    if (beforeMs !== undefined && atMs - beforeMs > REPLICA_LEASE_MS / 2) {
      this.#trustLatenessFromMs = atMs + REPLICA_LEASE_MS
    }
    return atMs >= this.#trustLatenessFromMs
  }

  /** Notes replicas, and when they were last renewed, as dead. */
  #lose(late: ReadonlyMap<string, number>): void {
    const fresh = [...late.keys()].filter((id) => !this.#lost.has(id))
    if (fresh.length === 0) return
    for (const id of fresh) {
      this.#lost.set(id, late.get(id) ?? 0)
      // Its next silence counts only when it was heard again in between.
      this.#seen.delete(id)
    }
    this.#others = new Set([...this.#others].filter((id) => !this.#lost.has(id)))
    this.#tell()
    this.#parts.onLost(fresh)
  }

  #tell(): void {
    const ids = [this.#parts.replicaId, ...this.#others].toSorted()
    const hops = new Map<string, string>()
    for (const id of ids) {
      const url = this.#hops.get(id)
      if (url !== undefined) hops.set(id, url)
    }
    const told = ids.map((id) => `${id} ${hops.get(id) ?? ''}`).join()
    if (told === this.#told) return
    this.#told = told
    this.#parts.onReplicas(ids, hops)
  }

  async #look(): Promise<void> {
    if (this.#isLooking || this.#others.size === 0) return
    this.#isLooking = true
    try {
      const silent = await this.#silentChannels()
      if (silent.length === 0) return
      await new Promise((resolve) => setTimeout(resolve, SECOND_LOOK_MS))
      const still = new Set(await this.#silentChannels())
      const gone = silent.filter((id) => still.has(id))
      if (gone.length === 0) return
      // One that stopped in order took its entry away before its connection.
      const scores = await this.#parts.client.zmscore(this.#entriesKey, ...gone)
      const late = new Map<string, number>()
      for (const [index, id] of gone.entries()) {
        const score = scores[index] ?? null
        if (score !== null) late.set(id, Number(score))
      }
      if (!this.#stopped) this.#lose(late)
    } catch {
      // The beats say what is wrong with the connection; here it only means that nothing can be told.
    } finally {
      this.#isLooking = false
    }
  }

  /** Others whose channel had a subscriber, as far as these connections can tell, and has none now. */
  async #silentChannels(): Promise<readonly string[]> {
    const { client, replicaId, keyBase, subscription } = this.#parts
    const ids = [replicaId, ...this.#others]
    const before = this.#present(subscription())
    const counts = subscriberCounts(
      await client.pubsub('NUMSUB', ...ids.map((id) => ReplicaWatch.channelOf(keyBase, id))),
    )
    const now = this.#present(subscription())
    // The counts of another server, or of one that was just started, say nothing about who died.
    if (before === undefined || now !== before || counts[0] !== 1) return []
    if (this.#seenThrough !== now) {
      const isFirst = this.#seenThrough === undefined
      this.#seenThrough = now
      this.#seen.clear()
      this.#trustCountsFromMs = isFirst ? 0 : performance.now() + REPLICA_LEASE_MS
    }
    const silent: string[] = []
    for (const [index, id] of ids.entries()) {
      if (id === replicaId) continue
      if ((counts[index] ?? 0) > 0) this.#seen.add(id)
      else if (this.#seen.has(id)) silent.push(id)
    }
    return performance.now() < this.#trustCountsFromMs ? [] : silent
  }

  /** All that a beat touches, for a Cluster that is moving them. */
  get #beatKeys(): readonly string[] {
    return [this.#globalKey, this.#entriesKey, `${this.#globalKey}:mark`, this.#hopsKey]
  }

  get #entriesKey(): string {
    return `${this.#globalKey}:replicas`
  }

  get #hopsKey(): string {
    return `${this.#globalKey}:hops`
  }

  /** Names the pair of connections that is in use; undefined while one is missing. */
  #present(subscription: number | null): string | undefined {
    const isReady = this.#parts.client.status === 'ready'
    return subscription === null || !isReady ? undefined : `${this.#connections} ${subscription}`
  }
}

interface Beat {
  readonly nowMs: number
  /** Replicas and when they were last renewed. */
  readonly entries: ReadonlyMap<string, number>
  readonly mark: string
  readonly hops: ReadonlyMap<string, string>
}

function parseBeat(answer: unknown): Beat {
  if (!Array.isArray(answer) || !Array.isArray(answer[1])) throw new Error('no answer to a beat')
  const entries = new Map(pairs(answer[1]).map(([id, score]) => [id, Number(score)]))
  return {
    nowMs: Number(answer[0]),
    entries,
    mark: String(answer[2]),
    hops: new Map(pairs(answer[3])),
  }
}

/** Of a flat list, in which names and values take turns. */
function pairs(flat: unknown): (readonly [name: string, value: string])[] {
  if (!Array.isArray(flat)) return []
  const texts = flat.map(String)
  return texts.flatMap((name, index) =>
    index % 2 === 0 ? [[name, texts[index + 1] ?? ''] as const] : [],
  )
}

/** From alternating channels and numbers, in the order that was asked. */
function subscriberCounts(answer: readonly unknown[]): number[] {
  return answer.filter((_value, index) => index % 2 === 1).map(Number)
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
