/**
 * Tells the log, once a minute, that requests are answered with an error because the adapter can't keep what it has to: the volume is full or broken. Clients
 * learn it from each answer; whoever runs the adapter would not.
 */
import type { Config } from '../shared/config/config.ts'
import type { AdapterError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { RareWarnings } from '../shared/rare-warnings.ts'

/** What to call for each request that is answered with an error of ours. `clock` is monotonic, in milliseconds. */
export function tellStorageTrouble(
  log: Pick<Log, 'error'>,
  { statePersistence }: Pick<Config, 'statePersistence'>,
  clock?: () => number,
): (error: AdapterError) => void {
  const trouble = new RareWarnings((message, details) => log.error(details, message), clock)
  return (error) => {
    const err = error.cause ?? error
    if (error.code === 'ADAPTER_STORAGE_FAILED') trouble.warn('files can not be stored', { err })
    // That Redis is away is told when it is noticed.
    else if (error.code === 'ADAPTER_STATE_UNAVAILABLE' && statePersistence.type !== 'redis')
      trouble.warn('sessions can not be stored', { err })
  }
}
