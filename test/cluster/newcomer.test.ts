/** The way of somebody who tries a cluster: `npm run cluster`, the demo, the loss of a replica, Ctrl-C. */
import { existsSync } from 'node:fs'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { runScript } from '../support/script.ts'

t.setTimeout(600_000)

t.test('npm run cluster serves the demo, also without a replica, and leaves nothing', async (t) => {
  const cluster = runScript(t, 'cluster.mjs', { PORT: '0' })
  await eventually(
    'it says what to do next',
    () => cluster.hasEnded || cluster.output().includes('Ctrl-C stops everything.'),
    40_000,
  )
  const text = cluster.output()
  const url = /HAProxy +(http:\/\/127\.0\.0\.1:\d+)/.exec(text)?.[1] ?? ''
  const port = new URL(url).port
  const pids = [...text.matchAll(/pid (\d+)/g)].map(([, pid]) => Number(pid))
  t.equal(pids.length, 6, 'HAProxy, three replicas, Redis and the report server')
  t.match(text, `${url}/mcp/report`, 'the one address for clients')
  const folder = /files +(\S+)/.exec(text)?.[1] ?? ''
  t.ok(existsSync(folder))
  const demonstrate = async (what: string): Promise<void> => {
    const demo = runScript(t, 'demo.mjs', { PORT: port })
    t.equal(await within('the demo ends', demo.exited, 20_000), 0, what, { output: demo.output() })
    t.match(demo.output(), `Using the adapter that runs at ${url}`)
    t.match(demo.output(), /the same as the resource/)
  }
  await demonstrate('the demo passes')

  const killed = Number(/kill -9 (\d+)/.exec(text)?.[1])
  t.ok(pids.includes(killed))
  process.kill(killed, 'SIGKILL')
  await demonstrate('the demo passes right after a replica is lost')
  await eventually(
    'the replica comes back',
    () => /Replica 1 runs again \(pid \d+\)/.test(cluster.output()),
    20_000,
  )
  const back = Number(/runs again \(pid (\d+)\)/.exec(cluster.output())?.[1])

  cluster.child.kill('SIGINT')
  t.equal(await within('it ends', cluster.exited, 20_000), 0, 'no error', {
    output: cluster.output(),
  })
  for (const pid of [...pids, back]) t.notOk(isAlive(pid), `process ${pid} is gone`)
  t.notOk(existsSync(folder), 'its files are gone')
  await t.rejects(fetch(url), 'and nobody listens')
})

t.test('npm run cluster says what is wrong with a number of replicas', async (t) => {
  for (const count of ['0', '10', 'many']) {
    const cluster = runScript(t, 'cluster.mjs', { PORT: '0', CLUSTER_REPLICAS: count })
    t.equal(await within('it ends', cluster.exited, 20_000), 1)
    t.match(cluster.output(), `CLUSTER_REPLICAS must be a number from 1 to 9, not ${count}`)
  }
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
