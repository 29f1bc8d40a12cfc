// When a replica that starts says that it may take traffic, and that what is ready is served meanwhile.
import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'

import t from 'tap'
import type { Test } from 'tap'

import { healthOf } from '../support/breaker-rig.ts'
import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import type { Replica } from '../support/replica.ts'
import { startScriptedUpstream } from '../support/upstreams/scripted-upstream.ts'
import { send, WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

/** A port that nobody listens on, and a listener that accepts and says nothing. */
const silent = createServer((socket) => socket.on('error', () => {}))
await listen(silent)
const refused = createServer()
await listen(refused)
const refusedPort = portOf(refused)
await new Promise((resolve) => refused.close(resolve))
t.teardown(() => silent.close())

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
}

function portOf(server: Server): number {
  // A listening TCP server has such an address.
  return (server.address() as AddressInfo).port
}

async function start(
  test: Test,
  ports: Readonly<Record<string, number>>,
  core: Readonly<Record<string, unknown>> = {},
): Promise<Replica> {
  const replica = await startReplica({
    config: {
      core: { workers: 2, ...core },
      servers: Object.entries(ports).map(([id, port]) => ({
        id,
        mount_path: `/mcp/${id}`,
        upstream: { url: `http://127.0.0.1:${port}/mcp` },
      })),
    },
  })
  test.teardown(() => replica.stop())
  return replica
}

async function readyz(replica: Replica): Promise<number> {
  return (await send(`${replica.url}/readyz`, { method: 'GET' })).status
}

for (const [how, port] of [
  ['refuses', refusedPort],
  ['accepts and says nothing', portOf(silent)],
] as const) {
  t.test(`one upstream of three that ${how} keeps nobody waiting for the others`, async (test) => {
    const [one, two] = [await startScriptedUpstream(), await startScriptedUpstream()]
    test.teardown(async () => {
      await one.stop()
      await two.stop()
    })
    const replica = await start(test, { one: one.port, dead: port, two: two.port })
    for (const id of ['one', 'two']) {
      const session = await WireSession.open(`${replica.url}/mcp/${id}`)
      test.equal((await session.request('tools/list')).status, 200)
    }
    test.equal((await send(`${replica.url}/livez`, { method: 'GET' })).status, 200)
    await eventually('it is ready', async () => (await readyz(replica)) === 200)
    const { status, startup } = await healthOf(replica)
    test.equal(status, 200)
    test.match(startup, {
      ready_within_wait_budget: true,
      max_start_wait_seconds: 60,
      not_ready_servers: ['dead'],
    })
    test.ok(Number(startup['waited_seconds']) < 60, 'it is not what the dead one is waited for')
  })
}

t.test('without any upstream a replica is ready when the wait is over', async (test) => {
  const replica = await start(
    test,
    { one: refusedPort, two: portOf(silent) },
    { max_start_wait_seconds: 2 },
  )
  test.equal(await readyz(replica), 503)
  test.equal((await send(`${replica.url}/livez`, { method: 'GET' })).status, 200)
  test.match((await healthOf(replica)).startup, {
    ready_within_wait_budget: false,
    not_ready_servers: ['one', 'two'],
  })
  await eventually('it is ready', async () => (await readyz(replica)) === 200)
  test.match((await healthOf(replica)).startup, { ready_within_wait_budget: false })
})

t.test('an upstream that comes up later than the replica is found at once', async (test) => {
  const replica = await start(test, { late: refusedPort })
  test.equal(await readyz(replica), 503)
  const late = await startScriptedUpstream({ port: refusedPort })
  test.teardown(() => late.stop())
  await eventually('it is ready', async () => (await readyz(replica)) === 200, 10_000)
  const { server, startup } = await healthOf(replica)
  test.match(server, { status: 'ok', breaker: { state: 'closed', consecutive_failures: 0 } })
  test.match(startup, { ready_within_wait_budget: true, not_ready_servers: [] })
  await late.stop()
  await eventually('it is gone', async () => {
    const { status } = await send(`${replica.url}/mcp/late`, {
      headers: {
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
      },
      body: '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}',
    })
    return status >= 500
  })
  test.equal(await readyz(replica), 200, 'who was ready stays so')
})

t.test('nothing is waited for when max_start_wait_seconds is 0', async (test) => {
  const replica = await start(test, { one: refusedPort }, { max_start_wait_seconds: 0 })
  test.equal(await readyz(replica), 200)
})

t.test('upstreams are waited for without pings, too', async (test) => {
  const one = await startScriptedUpstream()
  test.teardown(() => one.stop())
  const replica = await start(
    test,
    { one: one.port, two: refusedPort },
    { upstream_ping: { enabled: false } },
  )
  await eventually('it is ready', async () => (await readyz(replica)) === 200)
  test.equal(one.pings.length, 1)
})
