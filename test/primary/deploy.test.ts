/** What of deploy/ can be run without a container runtime or a cluster. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'

import t from 'tap'

import { startReplica } from '../support/replica.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'

const CHECK = fileURLToPath(new URL('../../../deploy/docker/healthcheck.mjs', import.meta.url))

async function check(url: string): Promise<unknown> {
  const child = spawn(process.execPath, [CHECK], {
    stdio: 'ignore',
    env: { ...process.env, HEALTHCHECK_URL: url },
  })
  const [code] = await once(child, 'exit')
  return code
}

t.test("the image's health check tells an adapter that lives from one that does not", async (t) => {
  const upstream = await startScriptedUpstream()
  t.teardown(() => upstream.stop())
  const replica = await startReplica({
    config: {
      core: { workers: 1 },
      servers: [{ id: 'a', mount_path: '/a', upstream: { url: upstream.url } }],
    },
  })
  t.equal(await check(`${replica.url}/livez`), 0)
  t.equal(await check(`${replica.url}/nothing-here`), 1)
  await replica.stop()
  t.equal(await check(`${replica.url}/livez`), 1)
})

t.test('the health check does not wait for an adapter that does not answer', async (t) => {
  const silent = createServer(() => {})
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => {
    silent.closeAllConnections()
    silent.close()
  })
  const address = silent.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  t.equal(await check(`http://127.0.0.1:${port}/livez`), 1)
})
