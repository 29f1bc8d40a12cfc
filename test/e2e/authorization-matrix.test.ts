/** The authorization matrix (test/support/authorization-matrix.ts), played on one replica, and on two that share their state. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { COLUMNS, ROUTES, RULES } from '../support/authorization-matrix.ts'
import type { Column, Expectation, MatrixRoute } from '../support/authorization-matrix.ts'
import { startCluster } from '../support/cluster.ts'
import {
  ALICE,
  BOB,
  newNonce,
  openOwned,
  requestOf,
  SIGNING_SECRET,
  unknownOf,
  usingUp,
} from '../support/matrix-world.ts'
import type { MatrixRequest, Owned } from '../support/matrix-world.ts'
import { startRecordingProxy } from '../support/recording-proxy.ts'
import { ask } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { fileServerSection, startFileServer } from '../support/upstreams/file-server.ts'

t.setTimeout(300_000)

const AUTH = {
  enabled: true,
  tokens: [
    { name: 'alice', token: ALICE },
    { name: 'bob', token: BOB },
  ],
  // Never asked: no token here is a JWT. It is what makes the metadata routes exist.
  jwt: { issuer: 'http://127.0.0.1:9', jwks_uri: 'http://127.0.0.1:9/keys', audience: 'matrix' },
  signing_secret: SIGNING_SECRET,
}
const CORE = { allow_artifacts_download: true, auth: AUTH }
const TELEMETRY = { prometheus: { enabled: true } }

/** Where a matrix is played. */
interface Stage {
  /** Where sessions are opened. */
  readonly home: string
  /** Where the requests of the matrix go. */
  readonly asked: string
  /** Everything that a request that is refused must leave as it is. */
  fingerprint(): Promise<unknown>
}

const workspace = await mkdtemp(join(tmpdir(), 'adapter-matrix-'))
const upstream = await startFileServer({ workspace })
t.teardown(async () => {
  await upstream.stop()
  await rm(workspace, { recursive: true, force: true })
})

t.test('on one replica', async (t) => {
  const recorder = await startRecordingProxy(t, upstream.url)
  const replica = await startReplica({
    config: { core: CORE, telemetry: TELEMETRY, servers: servers(recorder.url) },
  })
  t.teardown(() => replica.stop())
  await play(t, {
    home: replica.url,
    asked: replica.url,
    fingerprint: async () => {
      const health = await fetch(`${replica.url}/healthz`)
      // What `/healthz` documents.
      const { persistence } = (await health.json()) as {
        persistence: { state_inventory: object }
      }
      return [persistence.state_inventory, recorder.passed.length, await filesIn(replica.root)]
    },
  })
  for (const secret of [ALICE, BOB, SIGNING_SECRET]) t.notMatch(replica.logs(), secret)
})

t.test('on a replica that did not open the sessions', async (t) => {
  const recorder = await startRecordingProxy(t, upstream.url)
  const cluster = await startCluster(t, {
    replicas: 2,
    core: CORE,
    sections: { telemetry: TELEMETRY },
    servers: () => servers(recorder.url),
  })
  const [home, asked] = cluster.replicas
  if (home === undefined || asked === undefined) throw new Error('two replicas')
  await play(t, {
    home: home.url,
    asked: asked.url,
    fingerprint: async () => {
      const keys = await ask(cluster.redis.port, 'KEYS', '*{s:*')
      return [keys.toSorted(), recorder.passed.length, await filesIn(cluster.root)]
    },
  })
  for (const secret of [ALICE, BOB, SIGNING_SECRET]) t.notMatch(cluster.logs(), secret)
})

async function play(t: Test, stage: Stage): Promise<void> {
  const mine = await openOwned(stage.home, ALICE)
  const hers = await openOwned(stage.home, BOB)
  const used = newNonce()
  const unused = newNonce()
  const first = await send(stage.asked, usingUp(mine, used))
  t.equal(first.status, 200, first.body)
  const cases = ROUTES.flatMap((route) => COLUMNS.map((column) => [route, column] as const))
  t.match(JSON.stringify(await stage.fingerprint()), mine.sessionId, 'changes would be seen')

  for (const [route, column] of cases) {
    const expected = expectationOf(route, column)
    if (expected.kind !== 'refused') continue
    const nonce = column === 'replayed nonce' ? used : unused
    const request = requestOf(route, column, { mine, hers, nonce })
    await checkRefusal(t, stage, { route, column, expected, request, names: [mine, hers] })
  }
  for (const [route, column] of cases) {
    if (expectationOf(route, column).kind !== 'allowed') continue
    // What is done may end a session or use a URL up: each has its own.
    const whose = { mine: await openOwned(stage.home, ALICE), hers, nonce: newNonce() }
    const answer = await send(stage.asked, requestOf(route, column, whose))
    const isPassed = route.body === 'stateless' && ![401, 403, 404].includes(answer.status)
    t.ok(
      answer.status < 300 || isPassed,
      `${route.name}, ${column}: ${answer.status} ${answer.body}`,
    )
    whose.mine.leave()
  }
  for (const owned of [mine, hers]) await checkIntact(t, stage, owned)
  t.equal((await send(stage.asked, usingUp(mine, unused))).status, 200, 'its nonce was not used up')
  for (const { leave } of [mine, hers]) leave()
}

async function checkRefusal(
  t: Test,
  stage: Stage,
  { route, column, expected, request, names }: Refusal,
): Promise<void> {
  const title = `${route.name}, ${column}`
  const before = await stage.fingerprint()
  const answer = await send(stage.asked, request)
  t.equal(answer.status, expected.status, `${title}: ${answer.body}`)
  t.same(await stage.fingerprint(), before, `${title}: nothing changed`)
  if (route.method !== 'HEAD') t.match(shapeOf(route, answer.body), expected.code, title)
  t.equal(
    answer.challenge === null,
    expected.status !== 401,
    `${title}: a challenge goes with 401, and with nothing else`,
  )
  if (expected.asUnknown !== true) return
  const unknown = await send(stage.asked, unknownOf(request, names))
  t.same(answer, unknown, `${title}: as for what does not exist`)
}

interface Refusal {
  readonly route: MatrixRoute
  readonly column: Column
  readonly expected: Extract<Expectation, { kind: 'refused' }>
  readonly request: MatrixRequest
  readonly names: readonly Owned[]
}

/** The session still works, and its artifact is there. */
async function checkIntact(t: Test, stage: Stage, owned: Owned): Promise<void> {
  const list = ROUTES.find(({ body }) => body === 'list')
  const download = ROUTES.find(({ rule }) => rule === 'session of an artifact')
  for (const route of [list, download]) {
    if (route === undefined) throw new Error('such a route')
    const { path, init } = requestOf(route, 'right', { mine: owned, hers: owned, nonce: '' })
    const headers = Object.fromEntries(new Headers(init.headers))
    const authorized = { ...headers, authorization: `Bearer ${owned.token}` }
    const answer = await send(stage.asked, { path, init: { ...init, headers: authorized } })
    t.equal(answer.status, 200, `${route.name} afterwards`)
  }
}

/** The code in the body of an error, which has the shape of its route. */
function shapeOf(route: MatrixRoute, body: string): unknown {
  const parsed: unknown = JSON.parse(body)
  const isMcp = route.rule === 'token' || route.rule === 'session'
  // What the listener refuses of legacy clients has the plain form, what a worker does is JSON-RPC.
  const isPlain =
    route.path !== undefined || (route.below !== undefined && !body.includes('jsonrpc'))
  if ((!isMcp && route.rule !== 'legacy stream') || isPlain)
    return (parsed as { error: unknown }).error // `{error, detail}`
  // A JSON-RPC error.
  return (parsed as { jsonrpc: '2.0'; error: { data: { code: unknown } } }).error.data.code
}

function expectationOf(route: MatrixRoute, column: Column): Expectation {
  const found = RULES[route.rule].get(column)
  if (found === undefined) throw new Error(`nothing is expected of ${route.rule} with ${column}`)
  return found
}

async function send(url: string, { path, init }: MatrixRequest) {
  const abort = new AbortController()
  const answer = await fetch(`${url}${path}`, { ...init, signal: abort.signal })
  const isStream =
    init.method === 'GET' && answer.headers.get('content-type') === 'text/event-stream'
  const body = isStream ? '' : await answer.text()
  if (isStream) abort.abort()
  return {
    status: answer.status,
    type: answer.headers.get('content-type'),
    challenge: answer.headers.get('www-authenticate'),
    body,
  }
}

function servers(url: string): readonly object[] {
  const section = fileServerSection(url, workspace)
  return [section, { ...section, id: 'other', mount_path: '/mcp/other' }]
}

async function filesIn(root: string): Promise<readonly string[]> {
  const names = await readdir(join(root, 'sessions'), { recursive: true })
  return names.toSorted()
}
