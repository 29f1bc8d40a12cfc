/** What clients see of `unavailable_policy` when Redis is killed, paused, restarted empty, or not there at all. Real processes throughout. */
import t from 'tap'
import type { Test } from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'
import { freePort, startRedis } from '../support/redis.ts'
import type { RedisServer } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'

t.setTimeout(600_000)

/** A request that must not wait for a store that is known to be away, or not for longer than a command may take. */
const ANSWER_LIMIT_MS = 4_000

type Policy = 'fail_closed' | 'exit' | 'fallback_memory'

async function rigOn(t: Test, port: number, policy: Policy): Promise<FileRig> {
  const rig = await FileRig.start({
    core: { workers: 1, pre_drain_seconds: 0, shutdown_timeout_seconds: 5 },
    state_persistence: {
      type: 'redis',
      unavailable_policy: policy,
      redis: { host: '127.0.0.1', port, unavailable_after_seconds: 1, command_timeout_seconds: 1 },
    },
  })
  t.teardown(() => rig.stop())
  return rig
}

async function started(t: Test, policy: Policy): Promise<readonly [RedisServer, FileRig]> {
  const redis = await startRedis(t)
  return [redis, await rigOn(t, redis.port, policy)]
}

async function status(rig: FileRig, path: string): Promise<number> {
  const response = await fetch(rig.url + path)
  await response.arrayBuffer()
  return response.status
}

async function readiness(rig: FileRig, wanted: number): Promise<void> {
  await eventually(
    `/readyz is ${wanted}`,
    async () => (await status(rig, '/readyz')) === wanted,
    20_000,
  )
}

async function health(rig: FileRig): Promise<object> {
  // The shape is what the tests check.
  return (await (await fetch(`${rig.url}/healthz`)).json()) as object
}

/** All routes that need the store say that it is away, each in its own words, and soon. */
async function refusesEverything(t: Test, rig: FileRig, uploadUrl: string): Promise<void> {
  const opening = await within('an answer', rig.post(INITIALIZE), ANSWER_LIMIT_MS)
  t.equal(opening.status, 503)
  t.match(opening.message, { error: { code: 1503, data: { code: 'ADAPTER_STATE_UNAVAILABLE' } } })
  t.equal(opening.headers.get('retry-after'), '1')
  const upload = fetch(uploadUrl, { method: 'PUT', body: 'x' })
  const refused = await within('an answer', upload, ANSWER_LIMIT_MS)
  t.equal(refused.status, 503)
  t.equal(refused.headers.get('retry-after'), '1')
  t.match(await refused.json(), { error: 'ADAPTER_STATE_UNAVAILABLE' })
  t.equal(await status(rig, '/livez'), 200)
  t.match(await health(rig), {
    status: 'degraded',
    degraded_reason: 'persistence_unavailable_via_redis_persistence_health',
    persistence: {
      status: 'error',
      effective_type: 'redis',
      policy: { unavailable: true, unavailable_policy: 'fail_closed', exit_requested: false },
    },
  })
}

t.test('fail_closed: a paused Redis is answered 503, and everything goes on after', async (t) => {
  const [redis, rig] = await started(t, 'fail_closed')
  const session = await rig.openSession()
  const handle = await rig.upload(session, 'content')
  const uploadUrl = await rig.uploadUrl(session)
  t.match(await health(rig), {
    status: 'ok',
    persistence: { effective_type: 'redis', fallback_active: false, replicas_count: 1 },
  })
  redis.pause()
  await readiness(rig, 503)
  await refusesEverything(t, rig, uploadUrl)
  const refused = await rig.call(session, 'echo')
  t.match([refused.status, refused.text], [503, /ADAPTER_STATE_UNAVAILABLE/])

  redis.resume()
  await readiness(rig, 200)
  await eventually('the session goes on', () => rig.serves(session))
  t.match((await rig.call(session, 'read_file', { path: handle })).text, /sha256/)
  t.equal((await rig.put(uploadUrl, 'y')).status, 200, 'the URL was not used up')
  t.match(rig.replica.logs(), /state store lost/)
  t.match(rig.replica.logs(), /"msg":"state store can be reached again"/)
})

t.test('the log of an outage of Redis says what happened, and not where in the code', async (t) => {
  const [redis, rig] = await started(t, 'fail_closed')
  await rig.openSession()
  await redis.kill()
  await readiness(rig, 503)
  await eventually('maintenance has met it', () =>
    rig.replica.logs().includes('maintenance failed; it is tried again'),
  )
  const lines = rig.replica.logs().split('\n')
  const failed = lines.find((line) => line.includes('maintenance failed')) ?? ''
  t.notMatch(failed, /"stack"|enableOfflineQueue/)
  t.equal(lines.filter((line) => line.includes('state store lost')).length, 1)
})

t.test(
  'fail_closed: a Redis that comes back empty has no sessions, and takes new ones',
  async (t) => {
    const [redis, rig] = await started(t, 'fail_closed')
    const session = await rig.openSession()
    const uploadUrl = await rig.uploadUrl(session)
    t.ok(await rig.serves(session))
    await redis.kill()
    await readiness(rig, 503)
    await refusesEverything(t, rig, uploadUrl)

    await redis.restart()
    await readiness(rig, 200)
    const gone = await rig.call(session, 'echo')
    t.equal(gone.status, 404, 'nothing is served from what was known before')
    t.match(gone.text, /ADAPTER_SESSION_UNKNOWN/)
    t.ok(await rig.serves(await rig.openSession()))
  },
)

t.test(
  'fail_closed: a replica that is started without Redis waits for it, and says so',
  async (t) => {
    const port = await freePort()
    const rig = await rigOn(t, port, 'fail_closed')
    t.equal(await status(rig, '/livez'), 200)
    t.equal(await status(rig, '/readyz'), 503)
    t.equal((await rig.post(INITIALIZE)).status, 503)
    await startRedis(t, { port })
    await readiness(rig, 200)
    t.ok(await rig.serves(await rig.openSession()))
  },
)

t.test('exit: what is in hand is finished, and the process ends with 69', async (t) => {
  const [redis, rig] = await started(t, 'exit')
  const session = await rig.openSession()
  const calls = rig.upstream.calls.length
  const inHand = rig.call(session, 'slow', { ms: 3_000 })
  await eventually('the call is under way', () => rig.upstream.calls.length > calls)
  await redis.kill()
  const answer = await inHand
  t.match([answer.status, answer.text], [200, /Waited/])
  t.equal(await within('its end', rig.replica.ended, 20_000), 69)
  t.match(rig.replica.logs(), /stopping, because the shared state can not be reached/)
})

t.test(
  'exit: a short absence of Redis ends nothing; without Redis there is no start',
  async (t) => {
    const redis = await startRedis(t)
    const rig = await rigOn(t, redis.port, 'exit')
    t.ok(await rig.serves(await rig.openSession()))
    await redis.restart()
    await eventually('it serves again', async () => (await rig.post(INITIALIZE)).status === 200)
    t.equal(await status(rig, '/readyz'), 200)
    const state = {
      type: 'redis',
      unavailable_policy: 'exit',
      redis: { host: '127.0.0.1', port: await freePort(), unavailable_after_seconds: 1 },
    }
    const server = { id: 'a', mount_path: '/a', upstream: { url: 'http://127.0.0.1:9/mcp' } }
    await t.rejects(startReplica({ config: { state_persistence: state, servers: [server] } }), {
      message: /the adapter ended with 69/,
    })
  },
)

t.test('fallback_memory: sessions go on in memory, visibly, and are shared again', async (t) => {
  const [redis, rig] = await started(t, 'fallback_memory')
  const session = await rig.openSession()
  const handle = await rig.upload(session, 'content')
  await redis.kill()
  const inMemory = async (): Promise<boolean> =>
    /"effective_type":"memory"/.test(JSON.stringify(await health(rig)))
  await eventually('it goes on in memory', inMemory)
  t.equal(await status(rig, '/readyz'), 200)
  t.match(await health(rig), {
    status: 'degraded',
    degraded_reason: 'fallback_memory_activated_by_redis_persistence_health',
    persistence: {
      type: 'redis',
      configured_type: 'redis',
      status: 'degraded',
      fallback_active: true,
      policy: { active_backend: 'memory', fallback_active: true },
      replicas_count: 1,
    },
  })
  t.ok(await rig.serves(session))
  t.match((await rig.call(session, 'read_file', { path: handle })).text, /sha256/)
  const fresh = await rig.openSession()
  const freshHandle = await rig.upload(fresh, 'more')
  t.match(rig.replica.logs(), /"level":50.*fallback_memory/, 'it is loud')

  await redis.restart()
  await eventually('it is shared again', async () => !(await inMemory()), 20_000)
  t.equal(await status(rig, '/healthz'), 200)
  for (const [one, file] of [
    [session, handle],
    [fresh, freshHandle],
  ] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    t.match((await rig.call(one, 'read_file', { path: file })).text, /sha256/)
  }
})

t.test('fallback_memory: a replica that is started without Redis serves at once', async (t) => {
  const port = await freePort()
  const rig = await rigOn(t, port, 'fallback_memory')
  t.equal(await status(rig, '/readyz'), 200)
  const session = await rig.openSession()
  t.ok(await rig.serves(session))
  await startRedis(t, { port })
  await eventually('it is shared', async () => (await status(rig, '/healthz')) === 200, 20_000)
  t.ok(await rig.serves(session))
})
