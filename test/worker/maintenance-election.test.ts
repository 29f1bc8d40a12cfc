/** Two maintainers on one store and one root: never both at once, and never at the expense of a file that a record names. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { spawn, type ChildProcess } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t, { type Test } from 'tap'

import { FileStore } from '../../src/shared/files/file-store.ts'
import { parseUploadId } from '../../src/shared/ids.ts'
import { FileLock } from '../../src/worker/maintenance/file-lock.ts'
import { LeasedLock } from '../../src/worker/maintenance/maintenance-lock.ts'
import { StoreLock } from '../../src/worker/maintenance/store-lock.ts'
import { eventually } from '../support/eventually.ts'
import { newKeyBase, openRedisStore } from '../contract/redis-subject.ts'
import { startRedis } from '../support/redis.ts'
import { POLICY, sessionRecord, tempRoot } from './files-fixture.ts'
import { MINUTE, place, uploadRecord, uploadRef } from './maintenance-fixture.ts'

const PAUSED = fileURLToPath(new URL('./maintenance-paused.js', import.meta.url))
const LEASE_MS = 1_500

for (const lockMode of ['redis', 'file']) {
  t.test(
    `a maintainer that was paused past its lease removes nothing more: ${lockMode}`,
    async (t) => {
      const redis = await startRedis(t)
      const keyBase = newKeyBase()
      const store = await openRedisStore(t, [redis], POLICY, { keyBase })
      const root = await tempRoot(t)
      const files = new FileStore({ root, atomicWrites: true })
      const session = sessionRecord('srv')
      await store.openSession(session)
      const refs = Array.from({ length: 6 }, () => uploadRef(session))
      for (const ref of refs) await place(files, ref, 'orphan.txt', 60 * MINUTE)
      const child = startPaused(t, [String(redis.port), keyBase, root, lockMode])
      const lock = new LeasedLock(
        lockMode === 'file'
          ? new FileLock({
              directory: join(root, 'state', 'maintenance.lock'),
              owner: 'other',
              leaseMs: LEASE_MS,
            })
          : new StoreLock(store, 'other', LEASE_MS),
      )
      await eventually('the other is elected', () => child.output().includes('elected\n'))
      t.equal(await lock.hold(), undefined, 'there is one already')
      await eventually('it is in the middle of its run', () => child.output().includes('removed\n'))
      child.process.kill('SIGSTOP')
      await eventually('this one takes over', async () => (await lock.hold()) !== undefined)
      // As a reconciliation does: what is left gets records again.
      const left = await readdir(join(files.sessionDir(session), 'uploads'))
      t.equal(left.length, 4)
      const records = left.map((id) => uploadRecord(id, 'orphan.txt'))
      await store.adopt(session, records, [])
      child.process.stdin?.write('go on\n')
      child.process.kill('SIGCONT')
      await eventually('it ends its run', () => child.output().includes('"removals"'))
      t.match(JSON.parse(child.output().split('\n').at(-2) ?? ''), {
        endedEarly: true,
        removals: 2,
        holds: false,
      })
      t.same(
        (await readdir(join(files.sessionDir(session), 'uploads'))).toSorted(),
        left.toSorted(),
      )
      const ids = left.flatMap((id) => parseUploadId(id) ?? [])
      t.match(await store.resolveUploads(session, ids), { ok: true })
      await lock.release()
    },
  )
}

function startPaused(
  t: Test,
  args: readonly string[],
): { readonly process: ChildProcess; output(): string } {
  const child = spawn(process.execPath, [PAUSED, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk) => (output += String(chunk)))
  t.teardown(() => child.kill('SIGKILL'))
  return { process: child, output: () => output }
}
