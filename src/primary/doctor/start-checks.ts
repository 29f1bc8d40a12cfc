/** Guard rails that a replica looks at by itself: those of the configuration when it starts, and what Redis is like once it serves. */
import type { LoadedConfig } from '../../shared/config/load.ts'
import type { Log } from '../../shared/log.ts'
import { checkConfig, setsRoot } from './config-checks.ts'
import type { Finding } from './finding.ts'
import { checkReach } from './root-checks.ts'

type Loaded = Pick<LoadedConfig, 'config' | 'written'>

/** What `check` has to say besides that the configuration is valid. */
export function configRisks(loaded: Loaded): Finding[] {
  const findings = checkConfig(loaded.config, { isRootSet: setsRoot(loaded) })
  return findings.filter(({ level }) => level !== 'ok')
}

/** Logs what the configuration and the root show. */
export async function logRisks(loaded: Loaded, log: Log): Promise<void> {
  const { storage, statePersistence } = loaded.config
  const reach = statePersistence.type === 'redis' ? await checkReach(storage.root) : null
  const ofRoot = reach === null || reach.level === 'ok' ? [] : [reach]
  for (const finding of [...configRisks(loaded), ...ofRoot]) {
    log.warn({ subject: finding.subject }, finding.text)
  }
}

/** Logs what a live Redis shows. Whether it can be reached is not told here. Never rejects. */
export async function logRedisRisks({ config }: Pick<Loaded, 'config'>, log: Log): Promise<void> {
  if (config.statePersistence.type !== 'redis') return
  // Loaded only here: a replica without Redis starts without its client.
  const { inspectRedis } = await import('./doctor.ts')
  const findings = await inspectRedis(config).catch(() => [])
  for (const { level, subject, text } of findings) {
    if (level === 'problem') log.error({ subject }, text)
    else if (level === 'warning') log.warn({ subject }, text)
  }
}
