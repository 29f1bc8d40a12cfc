/** Looks at a live Redis: what it is, what it does when memory is short or it restarts, and whether this user may do all that the adapter does. */
import { randomBytes } from 'node:crypto'

import { changeChannel } from '../../shared/state/redis/changes.ts'
import { openSubscriber, type RedisClient } from '../../shared/state/redis/connection.ts'
import type { RedisConnectionOptions } from '../../shared/state/redis/connection.ts'
import { RedisKeys } from '../../shared/state/redis/keys.ts'
import { ok, problem, reasonOf, warning, type Finding } from './finding.ts'

/** The oldest version that has every command that the adapter uses. */
const OLDEST: readonly [number, number] = [6, 2]
const SLOW_MS = 20
const PINGS = 5
/** Clocks may differ by this much, in milliseconds. */
const MAX_SKEW_MS = 2_000
const PROBE_LIFE_MS = 60_000
const SUBSCRIBE_LIMIT_MS = 5_000

/** One server. */
type Server = ReturnType<typeof openSubscriber>

/** What to look at. */
export interface RedisSubject {
  readonly client: RedisClient
  readonly options: RedisConnectionOptions
  readonly keyBase: string
}

/** Judges each server that holds data. */
export async function checkServers({ client }: RedisSubject): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const server of serversOf(client)) {
    const name = 'nodes' in client ? ` of ${server.options.host}:${server.options.port}` : ''
    // oxlint-disable-next-line no-await-in-loop -- a handful at most, told in order
    findings.push(...(await checkServer(server, name)))
  }
  return findings
}

async function checkServer(server: Server, name: string): Promise<Finding[]> {
  const info = await readInfo(server)
  return [
    checkVersion(info, name),
    ...checkRole(info, name),
    await checkEviction(server, info, name),
    await checkPersistence(server, info, name),
  ]
}

function checkVersion(info: Info, name: string): Finding {
  const subject = `redis version${name}`
  const version = info.get('redis_version')
  if (version === undefined) {
    return warning(
      subject,
      `the user may not run INFO, so the version is not known; allow +info, and see that it is ${OLDEST.join('.')} or newer`,
    )
  }
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isOld = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])
  return isOld
    ? problem(
        subject,
        `${version} lacks commands that are needed; use ${OLDEST.join('.')} or newer`,
      )
    : ok(subject, version)
}

function* checkRole(info: Info, name: string): Generator<Finding> {
  if (info.get('role') !== 'slave') return
  yield problem(
    `redis role${name}`,
    'this server is a read-only copy of another; name the master, or the Sentinels that know it (redis.sentinel)',
  )
}

async function checkEviction(server: Server, info: Info, name: string): Promise<Finding> {
  const subject = `redis eviction${name}`
  const policy = info.get('maxmemory_policy') ?? (await readSetting(server, 'maxmemory-policy'))
  if (policy === undefined) {
    return warning(
      subject,
      'the user may run neither INFO nor CONFIG GET, so maxmemory-policy is not known; allow +info, and see that it is noeviction: any other drops sessions when memory is full',
    )
  }
  if (policy === 'noeviction') return ok(subject, 'maxmemory-policy is noeviction')
  const advice = 'set maxmemory-policy to noeviction'
  return info.get('maxmemory') === '0'
    ? warning(
        subject,
        `maxmemory-policy is ${policy}; without a maxmemory nothing is dropped yet, but with one sessions would be; ${advice}`,
      )
    : problem(
        subject,
        `maxmemory-policy is ${policy}, which drops sessions, and with them their files, when memory is full; ${advice}`,
      )
}

async function checkPersistence(server: Server, info: Info, name: string): Promise<Finding> {
  const subject = `redis persistence${name}`
  const log = info.get('aof_enabled') ?? (await readSetting(server, 'appendonly'))
  if (log === '1' || log === 'yes') return ok(subject, 'appendonly is on')
  const snapshots = await readSetting(server, 'save')
  const advice = 'set appendonly to yes'
  if (snapshots === undefined) {
    return warning(
      subject,
      `appendonly is off, and the user may not read whether there are snapshots (CONFIG GET save); a restart of Redis may end all sessions: ${advice}`,
    )
  }
  return snapshots === ''
    ? warning(subject, `off: a restart of Redis ends all sessions; ${advice}`)
    : warning(
        subject,
        `only snapshots (save ${snapshots}): a crash of Redis loses the sessions and files of the last minutes; ${advice}`,
      )
}

/** Does once what the adapter does all the time, with a key that is removed again. */
export async function checkRights({ client, options, keyBase }: RedisSubject): Promise<Finding[]> {
  const id = randomBytes(9).toString('base64url')
  const key = `${new RedisKeys(keyBase).global}:doctor:${id}`
  return [
    await checkScripts(client, key, keyBase),
    await checkMessages(client, options, `${keyBase}:replica:doctor-${id}`, changeChannel(keyBase)),
  ]
}

const TRY_KEYS = `
redis.call('SET', KEYS[1], 'x', 'PX', ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'field', '1')
redis.call('HINCRBY', KEYS[1], 'field', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], 1, 'member')
redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], '')
return redis.call('DEL', KEYS[1])
`

async function checkScripts(client: RedisClient, key: string, keyBase: string): Promise<Finding> {
  const subject = 'redis keys'
  try {
    await client.eval(TRY_KEYS, 1, key, PROBE_LIFE_MS, changeChannel(keyBase))
    return ok(subject, `scripts can use keys that begin with ${keyBase}:`)
  } catch (error) {
    return problem(
      subject,
      `a script can't use keys that begin with ${keyBase}: (${reasonOf(error)}); give the user the rights in docs/operations.md`,
    )
  }
}

async function checkMessages(
  client: RedisClient,
  options: RedisConnectionOptions,
  ...channels: readonly [string, string]
): Promise<Finding> {
  const subject = 'redis messages'
  const [own] = channels
  const subscriber = openSubscriber(options, 0)
  const failed = new Promise<never>((_resolve, reject) => {
    subscriber.on('error', reject)
    subscriber.on('end', () => reject(new Error('the connection ended')))
  })
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('no message arrived')), SUBSCRIBE_LIMIT_MS)
  })
  const heard = new Promise<void>((resolve) => {
    subscriber.on('message', (channel: string) => {
      if (channel === own) resolve()
    })
  })
  const tried = async (): Promise<void> => {
    await new Promise<void>((resolve) => subscriber.once('ready', resolve))
    await subscriber.subscribe(...channels)
    await client.publish(own, '')
    await heard
  }
  try {
    await Promise.race([tried(), failed, limit])
    return ok(subject, 'what is published arrives')
  } catch (error) {
    return problem(
      subject,
      `what replicas tell each other would not arrive (${reasonOf(error)}); give the user the rights in docs/operations.md`,
    )
  } finally {
    clearTimeout(timer)
    failed.catch(() => undefined)
    limit.catch(() => undefined)
    subscriber.disconnect()
  }
}

/** How long an answer takes. */
export async function checkLatency({ client }: RedisSubject): Promise<Finding> {
  const subject = 'redis latency'
  const timesMs: number[] = []
  for (let ping = 0; ping < PINGS; ping++) {
    const startedAtMs = performance.now()
    // oxlint-disable-next-line no-await-in-loop -- one after the other is what is measured
    await client.ping()
    timesMs.push(performance.now() - startedAtMs)
  }
  const middle = timesMs.toSorted((a, b) => a - b)[Math.floor(PINGS / 2)] ?? 0
  const told = `${middle.toFixed(1)} ms`
  return middle > SLOW_MS
    ? warning(
        subject,
        `${told} for an answer, which requests with limits wait for; put Redis nearer, or make the connection faster`,
      )
    : ok(subject, told)
}

/** Compares the clocks of Redis, of this machine and, when it can be read, of the file system. */
export async function checkClocks(
  { client }: RedisSubject,
  fileClock: { nowMs(): Promise<number> } | undefined,
): Promise<Finding[]> {
  const findings: Finding[] = []
  const [redisMs, localMs] = [await timeOf(client), Date.now()]
  findings.push(
    judgeClocks(
      'clocks',
      "this machine's clock",
      localMs - redisMs,
      'signed URLs that one replica makes seem to have expired, or to live too long, at another',
    ),
  )
  if (fileClock === undefined) return findings
  const filesMs = (await fileClock.nowMs()) - (await timeOf(client))
  findings.push(
    judgeClocks(
      'file clock',
      "the clock of the storage root's file system",
      filesMs,
      'files seem older or younger than they are to whoever looks at both',
    ),
  )
  return findings
}

function judgeClocks(subject: string, whose: string, aheadMs: number, effect: string): Finding {
  const seconds = (Math.abs(aheadMs) / 1_000).toFixed(1)
  if (Math.abs(aheadMs) <= MAX_SKEW_MS) {
    return ok(subject, `${whose} and that of Redis differ by ${seconds} s`)
  }
  return warning(
    subject,
    `${whose} is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} that of Redis: ${effect}; run NTP on both`,
  )
}

async function timeOf(client: RedisClient): Promise<number> {
  const [seconds, microseconds] = await client.time()
  return Number(seconds) * 1_000 + Number(microseconds) / 1_000
}

type Info = ReadonlyMap<string, string>

/** Empty when the user may not read it. */
async function readInfo(server: Server): Promise<Info> {
  const text = await server.info().catch(() => '')
  return new Map(
    text.split('\r\n').flatMap((line) => {
      const colon = line.indexOf(':')
      return colon === -1 || line.startsWith('#')
        ? []
        : [[line.slice(0, colon), line.slice(colon + 1)] as const]
    }),
  )
}

/** Undefined when the user may not read it, or the service has no CONFIG. */
async function readSetting(server: Server, name: string): Promise<string | undefined> {
  const answer: unknown = await server.config('GET', name).catch(() => undefined)
  return Array.isArray(answer) && typeof answer[1] === 'string' ? answer[1] : undefined
}

function serversOf(client: RedisClient): readonly Server[] {
  return 'nodes' in client ? client.nodes('master') : [client]
}
