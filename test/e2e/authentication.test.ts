/** Tokens: which ones are accepted, where they may stand, and that a session belongs to whoever opened it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'

const ALICE = 'the-token-of-alice-0001'
const ALICE_NEXT = 'the-token-of-alice-0002'
const BOB = 'the-token-of-bob-000001'
const OWN = 'the-token-without-a-name'
const NAME = 'x-mcp-adapter-auth-token'

const TOKENS = [
  { name: 'alice', token: ALICE },
  { name: 'alice', token: ALICE_NEXT },
  { name: 'bob', token: BOB },
]
const AUTH = { enabled: true, token: OWN, tokens: TOKENS }

const rig = await FileRig.start({ core: { auth: AUTH } })
t.teardown(() => rig.stop())

t.test('every configured token is accepted, in the header or as a bearer', async (t) => {
  for (const token of [OWN, ALICE, ALICE_NEXT, BOB]) {
    for (const headers of [
      { [NAME]: token },
      { authorization: `Bearer ${token}` },
      { authorization: `bearer  ${token}` },
      { [NAME]: token, authorization: `Bearer ${token}` },
      { [NAME]: token, authorization: 'Basic YTpi' },
    ]) {
      const answer = await rig.post(INITIALIZE, undefined, headers)
      t.equal(answer.status, 200, JSON.stringify(headers))
    }
  }
})

t.test('anything else is refused with a challenge, and reaches no upstream', async (t) => {
  const before = rig.upstream.calls.length
  const cases: readonly (readonly [string, Record<string, string>, RegExp])[] = [
    ['none', {}, /required in header x-mcp-adapter-auth-token, or as authorization: Bearer/],
    ['a wrong one', { [NAME]: `${BOB}x` }, /not valid/],
    ['a wrong bearer', { authorization: 'Bearer nonsense' }, /not valid/],
    ['another scheme', { authorization: `Basic ${BOB}` }, /required/],
    ['no scheme', { authorization: BOB }, /required/],
    ['an empty bearer', { authorization: 'Bearer ' }, /required/],
    ['two different ones', { [NAME]: ALICE, authorization: `Bearer ${BOB}` }, /different tokens/],
    ['one right, one wrong', { [NAME]: ALICE, authorization: 'Bearer x' }, /different tokens/],
  ]
  for (const [title, headers, hint] of cases) {
    const answer = await rig.post(INITIALIZE, undefined, headers)
    t.equal(answer.status, 401, title)
    t.match(answer.headers.get('www-authenticate'), /^Bearer/, title)
    t.match(answer.message, { error: { message: hint, data: { code: 'ADAPTER_UNAUTHORIZED' } } })
  }
  t.equal(rig.upstream.calls.length, before)
})

t.test('a session is its principal’s, whichever of the principal’s tokens is used', async (t) => {
  const alice = { [NAME]: ALICE }
  const id = await rig.openSession(alice)
  const used = await rig.call(
    id,
    'echo',
    { text: 'mine' },
    { authorization: `Bearer ${ALICE_NEXT}` },
  )
  t.match(used.text, /mine/, 'the token was replaced, the session goes on')

  const unknown = 'A'.repeat(id.length)
  for (const other of [{ [NAME]: BOB }, { [NAME]: OWN }]) {
    for (const method of ['POST', 'GET', 'DELETE']) {
      const foreign = await ask(method, id, other)
      t.equal(foreign.status, 404, method)
      t.same(foreign, await ask(method, unknown, other), 'a foreign session is as an unknown one')
    }
  }
  const still = await rig.call(id, 'echo', { text: 'still mine' }, alice)
  t.match(still.text, /still mine/, 'and nothing became of it')
})

t.test('an artifact is had by its session only with the session’s principal', async (t) => {
  const alice = { [NAME]: ALICE }
  const id = await rig.openSession(alice)
  const made = await rig.call(id, 'write_report', { filename: 'a.txt', content: 'of alice' }, alice)
  const signed = /"download_url":"([^"]+)"/.exec(made.text.replaceAll('\\"', '"'))?.[1]
  if (signed === undefined) throw new Error(made.text)
  const plain = signed.slice(0, signed.indexOf('?'))
  const byId = async (headers: Record<string, string>) => {
    const answer = await fetch(plain, { headers: { 'mcp-session-id': id, ...headers } })
    return { status: answer.status, body: await answer.text() }
  }
  t.same(await byId(alice), { status: 200, body: 'of alice' })
  t.equal((await byId({})).status, 401)
  const foreign = await byId({ [NAME]: BOB })
  t.equal(foreign.status, 404)
  const missing = await fetch(plain.replace('a.txt', 'b.txt'), {
    headers: { 'mcp-session-id': id, ...alice },
  })
  t.equal(foreign.body, await missing.text(), 'as one that does not exist')
  t.equal((await fetch(signed)).status, 200, 'the signed URL stands alone')
})

t.test('a token of ours in a header that is passed on is refused, not passed on', async (t) => {
  const passing = await FileRig.start({
    core: { auth: AUTH },
    server: {
      upstream: { url: rig.upstream.url, client_headers: { passthrough: ['Authorization'] } },
    },
  })
  t.teardown(() => passing.stop())
  const own = { [NAME]: ALICE }
  const id = await passing.openSession({ ...own, authorization: 'Bearer for-the-upstream' })
  const before = rig.upstream.calls.length
  await passing.call(id, 'echo', {}, { ...own, authorization: 'Bearer for-the-upstream' })
  t.equal(rig.upstream.calls[before]?.headers['authorization'], 'Bearer for-the-upstream')
  const leaking = await passing.call(id, 'echo', {}, { ...own, authorization: `Bearer ${ALICE}` })
  t.equal(leaking.status, 401)
  t.match(leaking.text, /passed on to the upstream/)
  t.equal(rig.upstream.calls.length, before + 1)
})

t.test('sessions from before authentication was on', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'adapter-auth-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const open = await FileRig.start({}, directory)
  t.teardown(() => open.stop())
  const id = await open.openSession()
  const restart = async (auth: object): Promise<void> => {
    await open.replica.stop()
    await open.restart({ core: { auth } }, directory)
  }
  const status = async (token: string): Promise<number> =>
    (await open.call(id, 'echo', {}, { [NAME]: token })).status

  await restart(AUTH)
  t.equal(await status(ALICE), 404, 'with several principals they are nobody’s')
  await restart({ enabled: true, token: OWN, tokens: [{ name: 'default', token: ALICE }] })
  t.equal(await status(ALICE), 200, 'with one they are that one’s')
  t.equal(await status(OWN), 200)
  const bound = await open.openSession({ [NAME]: OWN })
  await restart({ enabled: false })
  t.equal((await open.call(id, 'echo')).status, 200)
  t.equal((await open.call(bound, 'echo')).status, 404, 'one with a principal stays out of reach')
})

t.test('a foreign request does not wake a session that sleeps', async (t) => {
  const sleepy = await FileRig.start({
    core: { auth: AUTH, cleanup_interval_seconds: 1 },
    sessions: { idle_ttl_seconds: 1, allow_revival: true, max_active: 1 },
  })
  t.teardown(() => sleepy.stop())
  const id = await sleepy.openSession({ [NAME]: ALICE })
  await eventually('it sleeps', async () => (await sleepy.inventory())['tombstones_count'] === 1)
  t.equal((await sleepy.call(id, 'echo', {}, { [NAME]: BOB })).status, 404)
  await sleepy.openSession({ [NAME]: BOB })
  t.equal(
    (await sleepy.call(id, 'echo', {}, { [NAME]: ALICE })).status,
    429,
    'the only slot was free until then',
  )
})

async function ask(method: string, id: string, headers: Record<string, string>) {
  const answer = await fetch(`${rig.url}/mcp/files`, {
    method,
    headers: {
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-session-id': id,
      ...headers,
    },
    ...(method === 'POST'
      ? { body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/list' }) }
      : {}),
  })
  return { status: answer.status, body: await answer.text() }
}
