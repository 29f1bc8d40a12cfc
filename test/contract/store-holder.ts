/** A process that opens the disk store at the path it is given, stores one upload, says which, and holds the store until it is killed. */
import { openLocalStore } from '../../src/shared/state/open.ts'
import { OPEN_POLICY, newArtifact, opened, reserved, uploaded } from './store-fixtures.ts'

const path = process.argv[2]
if (path === undefined) throw new Error('no path given')

const store = openLocalStore({
  type: 'disk',
  path,
  walEnabled: true,
  snapshotPath: null,
  snapshotIntervalMs: 60_000,
  refreshOnStartup: false,
  policy: OPEN_POLICY,
})
const session = await opened(store)
const uploadId = await uploaded(store, session, 5)
await reserved(store, session, 100)
await store.allocateArtifact(session, newArtifact())
process.stdout.write(JSON.stringify({ session, uploadId }))
setInterval(() => undefined, 60_000)
