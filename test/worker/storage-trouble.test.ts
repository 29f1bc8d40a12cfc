/** What whoever runs the adapter is told when it can't keep files or sessions. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import t from 'tap'

import { AdapterError, StoreUnavailableError } from '../../src/shared/errors.ts'
import { tellStorageTrouble } from '../../src/worker/storage-trouble.ts'
import { load } from '../shared/config-loading.ts'
import { FileRig } from '../support/file-rig.ts'

t.setTimeout(60_000)

const SERVERS = 'servers: [{id: one, mount_path: /one, upstream: {url: "http://u.internal"}}]'

t.test('uploads that can not be stored are told in the log, once and with the cause', async (t) => {
  const rig = await FileRig.start({ core: { workers: 1, log_level: 'warning' } })
  t.teardown(() => rig.stop())
  const session = await rig.openSession()
  const urls = [await rig.uploadUrl(session), await rig.uploadUrl(session)]
  // Where a directory would be made for the first file.
  await writeFile(join(rig.replica.root, 'sessions'), 'no directory')
  for (const url of urls) t.equal((await rig.put(url, 'x')).status, 500)
  const lines = rig.replica.logs().split('\n')
  const told = lines.filter((line) => line.includes('files can not be stored'))
  t.equal(told.length, 1)
  t.match(told[0], /"level":50/)
  t.match(told[0], /ENOTDIR|EEXIST/)
})

t.test('a store that fails is told once a minute; that Redis is away is told elsewhere', (t) => {
  const lines: unknown[] = []
  let nowMs = 0
  const log = { error: (...line: unknown[]) => void lines.push(line) }
  const clock = (): number => nowMs
  const cause = new StoreUnavailableError('the state store failed: database or disk is full')
  const error = new AdapterError('ADAPTER_STATE_UNAVAILABLE', 'try again', { cause })
  const local = tellStorageTrouble(log, load(SERVERS), clock)
  for (let n = 0; n < 3; n++) local(error)
  t.same(lines, [[{ err: cause }, 'sessions can not be stored']])
  nowMs = 60_000
  local(error)
  t.same(lines[1], [{ err: cause, repeated: 2 }, 'sessions can not be stored'])
  local(new AdapterError('ADAPTER_SESSION_UNKNOWN', 'who'))
  const redis = 'state_persistence: {type: redis, redis: {host: r.internal}}'
  tellStorageTrouble(log, load(`${redis}\n${SERVERS}`), clock)(error)
  t.equal(lines.length, 2)
  t.end()
})
