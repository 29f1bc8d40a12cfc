/** What the primary answers by itself, while it stops. */
import t from 'tap'

import { Listener } from '../../src/primary/listener/server.ts'
import { loadNative } from '../../src/primary/listener/native.ts'
import { load } from '../shared/config-loading.ts'
import { eventually } from '../support/eventually.ts'

t.test('a stop waits for an answer of ours, and not for an end of probes', async (t) => {
  const waiting: (() => void)[] = []
  const listener = new Listener(
    loadNative(),
    load('servers:\n  - {id: a, mount_path: /a, upstream: {url: "http://u/mcp"}}'),
    null,
    {
      workerFor: () => {
        throw new Error('no worker is asked')
      },
      health: () =>
        new Promise((resolve) => waiting.push(() => resolve({ status: 200, body: '{}' }))),
      keysFailed: () => {},
    },
  )
  const port = await listener.listen('127.0.0.1', 0)
  t.teardown(() => listener.close())
  const probe = fetch(`http://127.0.0.1:${port}/healthz`)
  await eventually('the probe to arrive', () => waiting.length === 1)
  t.equal(listener.inFlight, 1)
  listener.drain()
  listener.stopListening()
  const stopped = listener.idle(20_000, 0).then(() => listener.close())
  // As many turns as a stop looks at, and some.
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
  for (const answer of waiting) answer()
  const answer = await probe
  t.equal(answer.status, 200)
  t.equal(await answer.text(), '{}')
  await stopped
  t.equal(listener.inFlight, 0)
})
