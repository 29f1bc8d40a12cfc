/** JWT access tokens of an authorization server: which are accepted, what clients are told of the others, and what happens when keys change or can't be had. */
import type { ServerResponse } from 'node:http'

import { SignJWT } from 'jose'
import t from 'tap'

import { startAuthorizationServer } from '../support/authorization-server.ts'
import type { TokenOptions } from '../support/authorization-server.ts'
import { eventually } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'

const BASE = 'https://gateway.example'
const AUDIENCE = `${BASE}/mcp/files`
const STATIC = 'a-static-token-beside-the-jwts'

const issuer = await startAuthorizationServer(['mcp', 'files'])
const rig = await FileRig.start({
  core: {
    public_base_url: BASE,
    auth: {
      enabled: true,
      tokens: [{ name: 'static', token: STATIC }],
      jwt: {
        issuer: issuer.issuer,
        jwks_uri: issuer.jwksUri,
        required_scopes: ['mcp', 'files'],
        clock_tolerance_seconds: 2,
        jwks_cooldown_seconds: 1,
        jwks_cache_seconds: 2,
      },
    },
  },
})
t.teardown(async () => {
  await rig.stop()
  await issuer.stop()
})

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })
const tokenFor = (options: TokenOptions = {}): Promise<string> =>
  issuer.token({ audience: AUDIENCE, ...options })
const initialize = (token: string) => rig.post(INITIALIZE, undefined, bearer(token))

t.test('a good token is accepted, in either header, and known from then on', async (t) => {
  const token = await tokenFor()
  t.equal((await initialize(token)).status, 200)
  const asked = issuer.requests.length
  t.equal((await initialize(token)).status, 200)
  t.equal(
    (await rig.post(INITIALIZE, undefined, { 'x-mcp-adapter-auth-token': token })).status,
    200,
  )
  t.ok(issuer.requests.length <= asked + 1, 'the keys are not read for each request')
  for (const audience of [BASE, `${BASE}/`, ['https://other.example', AUDIENCE]])
    t.equal((await initialize(await tokenFor({ audience }))).status, 200, String(audience))
  t.equal(
    (await initialize(await tokenFor({ claims: { scope: null, scp: ['files', 'mcp'] } }))).status,
    200,
  )
  t.equal((await initialize(STATIC)).status, 200, 'static tokens are as good')
})

t.test('any other token is refused with invalid_token, and reaches no upstream', async (t) => {
  const before = rig.upstream.calls.length
  const hmac = await new SignJWT({ iss: issuer.issuer, sub: 'x', aud: AUDIENCE })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('5m')
    .sign(Buffer.from(STATIC.padEnd(64, 'x')))
  const good = await tokenFor()
  const [header = '', payload = '', signature = ''] = good.split('.')
  const none = Buffer.from('{"alg":"none"}').toString('base64url')
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['expired', await tokenFor({ expiresInSeconds: -10 }), /has expired/],
    ['for another audience', await tokenFor({ audience: 'https://other.example' }), /aud/],
    ['for another server here', await tokenFor({ audience: `${BASE}/mcp/other` }), /aud/],
    ['for nobody', await issuer.token(), /aud|claim/],
    ['of another issuer', await tokenFor({ issuer: 'https://evil.example' }), /iss/],
    ['forged', await tokenFor({ isForged: true }), /signature/],
    ['tampered', `${header}.${payload.slice(0, -2)}AA.${signature}`, /signature|not valid/],
    ['without a signature', `${none}.${payload}.x`, /algorithm|not valid/],
    ['signed with a shared secret', hmac, /algorithm/],
    ['not valid yet', await tokenFor({ claims: { nbf: Date.now() / 1_000 + 60 } }), /nbf/],
    ['without an expiry', await tokenFor({ claims: { exp: null } }), /claim/],
    ['without a subject', await tokenFor({ claims: { sub: null } }), /claim/],
    ['with an endless subject', await tokenFor({ subject: 'x'.repeat(300) }), /not valid/],
    ['not a token', 'a.b.c', /not valid/],
  ]
  for (const [title, token, hint] of cases) {
    const answer = await initialize(token)
    t.equal(answer.status, 401, title)
    t.match(answer.message, { error: { message: hint, data: { code: 'ADAPTER_UNAUTHORIZED' } } })
    const challenge = answer.headers.get('www-authenticate')
    t.match(challenge, /^Bearer error="invalid_token", error_description="[^"]+"/, title)
    t.match(challenge, `resource_metadata="${BASE}/.well-known/oauth-protected-resource/mcp/files"`)
  }
  t.equal(rig.upstream.calls.length, before)
})

t.test('without a token the challenge names no error; without a scope it is a 403', async (t) => {
  const missing = await rig.post(INITIALIZE)
  t.equal(missing.status, 401)
  t.equal(
    missing.headers.get('www-authenticate'),
    `Bearer scope="mcp files", resource_metadata="${BASE}/.well-known/oauth-protected-resource/mcp/files"`,
  )
  for (const scope of ['mcp', '', 'mcpfiles']) {
    const answer = await initialize(await tokenFor({ scope }))
    t.equal(answer.status, 403, scope)
    t.match(answer.message, { error: { data: { code: 'ADAPTER_SCOPE_MISSING' } } })
    t.match(
      answer.headers.get('www-authenticate'),
      /^Bearer error="insufficient_scope", .*scope="mcp files"/,
    )
  }
})

t.test('the metadata is public, for each server and for all', async (t) => {
  for (const [suffix, resource] of [
    ['/mcp/files', AUDIENCE],
    ['', BASE],
  ] as const) {
    const answer = await fetch(`${rig.url}/.well-known/oauth-protected-resource${suffix}`)
    t.equal(answer.status, 200)
    t.equal(answer.headers.get('content-type'), 'application/json')
    t.same(await answer.json(), {
      resource,
      authorization_servers: [issuer.issuer],
      scopes_supported: ['mcp', 'files'],
      bearer_methods_supported: ['header'],
      resource_name: 'remote-mcp-adapter',
    })
  }
  const url = `${rig.url}/.well-known/oauth-protected-resource`
  t.equal((await fetch(`${url}/mcp/none`)).status, 404)
  t.equal((await fetch(url, { method: 'HEAD' })).status, 200)
  const posted = await fetch(url, { method: 'POST', body: '{}' })
  t.equal(posted.status, 405)
  t.equal(posted.headers.get('allow'), 'GET, HEAD')
})

t.test('a session belongs to issuer and subject, whatever token proves them', async (t) => {
  const id = await rig.openSession(bearer(await tokenFor({ subject: 'alice' })))
  const call = async (token: string): Promise<number> =>
    (await rig.call(id, 'echo', {}, bearer(token))).status
  t.equal(await call(await tokenFor({ subject: 'alice' })), 200, 'a renewed token')
  t.equal(await call(await tokenFor({ subject: 'bob' })), 404)
  t.equal(await call(STATIC), 404)
  t.equal(await call(await tokenFor({ subject: 'alice', expiresInSeconds: -10 })), 401)
})

t.test('bodies of any size arrive whole, although the token takes a while', async (t) => {
  const token = await tokenFor()
  const id = await rig.openSession(bearer(token))
  const text = 'x'.repeat(3_000_000)
  for (const size of [10, 100_000, text.length]) {
    const fresh = await tokenFor()
    const answer = await rig.call(id, 'echo', { text: text.slice(0, size) }, bearer(fresh))
    t.equal(answer.status, 200)
    t.ok(answer.text.includes(text.slice(0, size)), `${size} bytes`)
    const refused = await rig.call(
      id,
      'echo',
      { text: text.slice(0, size) },
      bearer(await tokenFor({ isForged: true })),
    )
    t.equal(refused.status, 401)
  }
  const both = await Promise.all([initialize(await tokenFor()), initialize(await tokenFor())])
  t.same(
    both.map(({ status }) => status),
    [200, 200],
  )
})

t.test('a token that expires is refused although it was known', async (t) => {
  const token = await tokenFor({ expiresInSeconds: 1 })
  t.equal((await initialize(token)).status, 200)
  await eventually('it is refused', async () => (await initialize(token)).status === 401)
})

t.test('a new key is found; how often an unknown one makes it look is limited', async (t) => {
  const old = await tokenFor()
  await issuer.rotate()
  const token = await tokenFor()
  await eventually('the new key is accepted', async () => (await initialize(token)).status === 200)
  t.match((await initialize(old)).message, { error: { message: /does not publish/ } })

  const before = issuer.requests.length
  await issuer.rotate()
  const unknown = await Promise.all(
    Array.from({ length: 20 }, async () => initialize(await unpublished())),
  )
  t.same([...new Set(unknown.map(({ status }) => status))], [401])
  t.ok(issuer.requests.length - before <= 3, `${issuer.requests.length - before} readings`)
})

t.test('keys that can not be had are a 503, and no longer than that', async (t) => {
  const known = await tokenFor()
  await eventually('it is known', async () => (await initialize(known)).status === 200)
  const failures: readonly (readonly [string, (response: ServerResponse) => void])[] = [
    ['an error', (response) => response.writeHead(500).end()],
    ['a redirect', (response) => response.writeHead(302, { location: '/elsewhere' }).end()],
    ['something else', (response) => response.end('<html>')],
    ['no key set', (response) => response.end('{"keys":{}}')],
    ['too much', (response) => response.end(`{"keys":["${'x'.repeat(2_000_000)}"]}`)],
    ['a cut', (response) => response.destroy()],
  ]
  for (const [title, fail] of failures) {
    issuer.serveKeys = (response) => {
      fail(response)
      return true
    }
    const answer = await lastOf(async () => {
      const last = await initialize(await tokenFor())
      return last.status === 503 ? last : undefined
    })
    t.match(
      answer.message,
      {
        error: { data: { code: 'ADAPTER_KEYS_UNAVAILABLE', retryable: true } },
      },
      title,
    )
    t.equal(answer.headers.get('retry-after'), '1')
    t.equal((await initialize(known)).status, 200, 'who is known is still served')
    t.equal((await initialize(STATIC)).status, 200, 'static tokens need no keys')
    issuer.serveKeys = () => false
    await eventually('it recovers', async () => (await initialize(await tokenFor())).status === 200)
  }
  t.match(rig.replica.logs(), /jwks_uri can not be read/)
  t.notMatch(rig.replica.logs(), known, 'the log holds no token')
})

/** A token whose key id was never published. */
async function unpublished(): Promise<string> {
  const [, payload = '', signature = ''] = (await tokenFor()).split('.')
  const header = { alg: 'ES256', kid: `unknown-${Math.random()}` }
  return `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${payload}.${signature}`
}

async function lastOf<T>(ask: () => Promise<T | undefined>): Promise<T> {
  let found: T | undefined
  await eventually('an answer of the kind', async () => {
    found = await ask()
    return found !== undefined
  })
  if (found === undefined) throw new Error('none')
  return found
}
