/** `remote-mcp-adapter doctor`: tries everything that a configuration depends on where it will run, and says what is wrong and what to do. */
import { resolve } from 'node:path'

import type { Config } from '../../shared/config/config.ts'
import type { LoadedConfig } from '../../shared/config/load.ts'
import { redisConnectionOptions } from '../../shared/state/redis/connection-options.ts'
import { checkClientTls } from '../../shared/upstream-tls.ts'
import { checkKeys } from './auth-checks.ts'
import { checkConfig, setsRoot } from './config-checks.ts'
import { ok, problem, reasonOf, type Finding } from './finding.ts'
import {
  checkClocks,
  checkLatency,
  checkRights,
  checkServers,
  type RedisSubject,
} from './redis-checks.ts'
import { connectOnce, placeOf } from './redis-link.ts'
import { checkReplicas } from './replica-checks.ts'
import { checkReach, checkRoot } from './root-checks.ts'
import { checkUpstreams } from './upstream-checks.ts'

/** Longest wait for a connection, in milliseconds. */
const MAX_CONNECT_MS = 5_000
const WIDTH = { level: 9, subject: 20 } as const

/** Runs every check and tells each finding as it comes; answers the exit code: 0 without a problem, else 1. */
export async function runDoctor(
  loaded: Pick<LoadedConfig, 'config' | 'written'>,
  tell: (line: string) => void,
): Promise<number> {
  let problems = 0
  for await (const finding of lookAtAll(loaded)) {
    if (finding.level === 'problem') problems++
    tell(lineOf(finding))
  }
  return problems === 0 ? 0 : 1
}

/** Looks at the servers only; finds nothing where they can't be reached. Throws `ConfigError` when a file for TLS can't be read. */
export async function inspectRedis(config: Config): Promise<Finding[]> {
  const findings: Finding[] = []
  await withRedis(config, async (subject) => {
    findings.push(...(await checkServers(subject)))
  })
  return findings
}

async function* lookAtAll(
  loaded: Pick<LoadedConfig, 'config' | 'written'>,
): AsyncGenerator<Finding> {
  const { config } = loaded
  const isShared = config.statePersistence.type === 'redis'
  yield* checkConfig(config, { isRootSet: setsRoot(loaded) })
  checkClientTls(config.servers)
  yield* await checkUpstreams(config)
  const keys = await checkKeys(config)
  if (keys !== undefined) yield keys
  const root = resolve(config.storage.root)
  const checked = await checkRoot(root, { isShared })
  yield* checked.findings
  const reach = isShared ? await checkReach(root) : null
  if (reach !== null) yield reach
  if (!isShared) return
  const collected: Finding[] = []
  const reached = await withRedis(config, async (subject, place) => {
    collected.push(ok('redis', `answers at ${place}`))
    for (const look of [
      () => checkServers(subject),
      () => checkRights(subject),
      async () => [await checkLatency(subject)],
      () => checkClocks(subject, checked.clock),
      () => checkReplicas(config, subject.client),
    ]) {
      // oxlint-disable-next-line no-await-in-loop -- told in order
      collected.push(...(await look()))
    }
  })
  yield* collected
  if (reached !== undefined) yield reached
}

/** Connects, works and disconnects; answers what was in the way. */
async function withRedis(
  config: Config,
  work: (subject: RedisSubject, place: string) => Promise<void>,
): Promise<Finding | undefined> {
  const { redis } = config.statePersistence
  const options = redisConnectionOptions(redis)
  const place = placeOf(options)
  const limitMs = Math.min(MAX_CONNECT_MS, options.connectTimeoutMs)
  const link = await connectOnce(options, limitMs)
  if (!link.ok)
    return problem('redis', `${place} can't be used: ${link.reason}; ${adviceFor(link.reason)}`)
  try {
    await work({ client: link.client, options, keyBase: redis.keyBase }, place)
    return undefined
  } catch (error) {
    return problem('redis', `${place} stopped answering: ${reasonOf(error)}; see its log`)
  } finally {
    link.client.disconnect()
  }
}

function adviceFor(reason: string): string {
  if (/WRONGPASS|NOAUTH|invalid.*password/i.test(reason)) {
    return 'check state_persistence.redis.username and .password'
  }
  if (/certificate|self.signed|altnames/i.test(reason)) {
    return 'check state_persistence.redis.tls.ca_file and .server_name'
  }
  if (/EPROTO|SSL|wrong version|ECONNRESET|closed/i.test(reason)) {
    return 'check state_persistence.redis.tls: one side may speak TLS and the other not'
  }
  if (/ENOTFOUND|EAI_AGAIN/.test(reason)) return 'check state_persistence.redis.host'
  return 'check that it runs, and state_persistence.redis.host and .port'
}

function lineOf({ level, subject, text }: Finding): string {
  return `${level.padEnd(WIDTH.level)}${subject.padEnd(WIDTH.subject)} ${text}`
}
