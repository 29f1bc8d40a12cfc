/**
 * A maintainer as a process of its own, which a test pauses in the middle of a run. Arguments: Redis' port, key base, root, and `redis` or `file` for
 * its lock. It says `elected`, `removed` after its second removal (and then waits for a line), and at last how its run ended, as JSON.
 */
import { once } from 'node:events'
import { join } from 'node:path'

import { Redis } from 'ioredis'

import { FileClock } from '../../src/shared/files/file-clock.ts'
import { FileStore } from '../../src/shared/files/file-store.ts'
import { RedisClientStore } from '../contract/redis-client-store.ts'
import { FileLock } from '../../src/worker/maintenance/file-lock.ts'
import { LeasedLock } from '../../src/worker/maintenance/maintenance-lock.ts'
import { StoreLock } from '../../src/worker/maintenance/store-lock.ts'
import { Sweeper } from '../../src/worker/maintenance/sweeper.ts'
import { POLICY } from './files-fixture.ts'

const LEASE_MS = 1_500
const GRACE_MS = 300_000

const [, , port = '', keyBase = '', root = '', lockMode = ''] = process.argv
const store = await RedisClientStore.open(
  { client: new Redis(Number(port)), keyBase, policy: POLICY, onWarning: () => {} },
  new Redis(Number(port)),
)
const lock = new LeasedLock(
  lockMode === 'file'
    ? new FileLock({
        directory: join(root, 'state', 'maintenance.lock'),
        owner: 'paused',
        leaseMs: LEASE_MS,
      })
    : new StoreLock(store, 'paused', LEASE_MS),
)

let removals = 0
class PausingFiles extends FileStore {
  override async removeItem(ref: Parameters<FileStore['removeItem']>[0]): Promise<void> {
    await super.removeItem(ref)
    if (++removals !== 2) return
    process.stdout.write('removed\n')
    await once(process.stdin, 'data')
  }
}

let aheadMs = 0
const sweeper = new Sweeper({
  store,
  files: new PausingFiles({ root, atomicWrites: true }),
  orphans: { enabled: true, graceMs: GRACE_MS },
  fileClock: new FileClock(join(root, 'sessions')),
  clock: { monotonicMs: () => performance.now() + aheadMs, wallMs: () => Date.now() + 5_000 },
  aliveSessions: () => [],
  onSessionsEnded: () => {},
})
const tenure = await lock.hold()
if (tenure === undefined) throw new Error('somebody else is the maintainer')
const renewals = setInterval(() => void lock.hold(), LEASE_MS / 5)
process.stdout.write('elected\n')
await sweeper.runOnce(tenure)
aheadMs += GRACE_MS
const report = await sweeper.runOnce(tenure)
clearInterval(renewals)
process.stdout.write(`${JSON.stringify({ ...report, removals, holds: tenure.holds })}\n`)
process.exit(0)
