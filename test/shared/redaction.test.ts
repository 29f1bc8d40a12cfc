/** What is written for people holds no secret: by value, by shape and by name. */
import { assert, pre, property, string } from 'fast-check'
import t from 'tap'

import { secretsOf } from '../../src/shared/config/secrets.ts'
import { mintSessionId } from '../../src/shared/ids.ts'
import { Redactor } from '../../src/shared/redaction.ts'
import { mintNonce, UrlSigner } from '../../src/shared/signing.ts'

t.test('a secret that the process was given is hidden in every form it may stand in', (t) => {
  const secret = 'p"ä%\\ /$(x)*'
  const redactor = new Redactor({ values: [secret, `${secret}-longer`, 'Bearer abc.def.123'] })
  for (const form of [secret, JSON.stringify(secret), encodeURIComponent(secret)])
    t.notOk(redactor.text(`before ${form} after`).includes(form.slice(2, -2)), form)
  t.equal(redactor.text(`${secret}-longer!`), '<redacted>!', 'the longest goes first')
  t.equal(redactor.text('it was abc.def.123'), 'it was <redacted>', 'without its scheme, too')
  redactor.learn({ values: ['made later'] })
  t.equal(redactor.text('a key made later'), 'a key <redacted>')
  t.end()
})

t.test('words too short to be a secret do not make every text unreadable', (t) => {
  const redactor = new Redactor({ values: ['a', 'true', '', '   '] })
  t.equal(redactor.text('a true story'), 'a true story')
  t.end()
})

t.test('what looks like a credential is hidden, prose is not', (t) => {
  const redactor = new Redactor({ values: [] })
  const session = mintSessionId()
  const signer = new UrlSigner({ secrets: ['x'] })
  const grant = { serverId: 's', sessionId: session, expiresAtSeconds: 9, nonce: mintNonce() }
  const query = signer.signUpload(grant)
  const url = redactor.text(`PUT https://me:pass@h/upload/s?${query}`)
  for (const part of [
    'me:pass',
    session,
    grant.nonce,
    new URLSearchParams(query).get('mcp_upload_sig') ?? '',
  ])
    t.notOk(url.includes(part), `${part} in ${url}`)
  for (const [text, shown] of [
    ['Authorization: Bearer abcDEF123.x', 'Authorization: <redacted>'],
    ['sent Bearer abcDEF123', 'sent Bearer <redacted>'],
    ['Basic dXNlcjpwYXNzd29yZA==', 'Basic <redacted>'],
    ['jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc', 'jwt <redacted>'],
    ['cookie: a=b; c=d', 'cookie: <redacted>'],
    ['redis_password=hunter2, user=me', 'redis_password=<redacted>, user=me'],
    ['/a/b?sig=1&x=2', '/a/b?sig=<redacted>&x=2'],
    ['-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----!', '<redacted>!'],
    [`/data/sessions/s/${session}/uploads`, `/data/sessions/s/${session.slice(0, 6)}…/uploads`],
  ] as const)
    t.equal(redactor.text(text), shown)
  for (const prose of [
    'Basic authentication is not supported, use a bearer token',
    'the token: asked for on every request',
    'persistence_unavailable_via_redis_persistence_health',
    'connect ECONNREFUSED 127.0.0.1:6379',
    'd41d8cd98f00b204e9800998ecf8427e',
  ])
    t.equal(redactor.text(prose), prose)
  t.end()
})

t.test('values are hidden by their names, at any depth, and numbers and nothing stay', (t) => {
  const redactor = new Redactor({ values: [], names: ['X-Tenant'] })
  t.same(
    redactor.value({
      'X-Tenant': 'a',
      apiKey: 'b',
      access_token: ['c'],
      token: null,
      maxTokens: 3,
      list: [{ 'Set-Cookie': 'd', name: 'e' }],
    }),
    {
      'X-Tenant': '<redacted>',
      apiKey: '<redacted>',
      access_token: '<redacted>',
      token: null,
      maxTokens: 3,
      list: [{ 'Set-Cookie': '<redacted>', name: 'e' }],
    },
  )
  const round: Record<string, unknown> = {}
  round['self'] = round
  t.match(JSON.stringify(redactor.value(round)), /too deep/, 'and what contains itself ends')
  t.end()
})

t.test('the secrets of a configuration are found in both spellings of its keys', (t) => {
  const { values, names } = secretsOf({
    core: {
      auth: {
        headerName: 'X-Key',
        token: 'token-value',
        signing_secret: ['key-new', 'key-old'],
        tokens: [{ name: 'ci', token: 'token-of-ci' }],
      },
    },
    state_persistence: { redis: { password: 'redis-password', sentinel: { password: null } } },
    telemetry: { headers: { 'x-otlp': 'otlp-value' } },
    servers: [
      {
        upstream: {
          url: 'http://me:p%40ss@h/mcp?api_key=in-query&x=1',
          staticHeaders: { 'X-Static': 'static-value' },
          client_headers: { passthrough: ['X-Passed'], required: ['X-Required'] },
        },
      },
      { upstream: { url: 'https://only-a-token@h/' } },
    ],
  })
  t.same(
    new Set(values),
    new Set([
      'token-value',
      'key-new',
      'key-old',
      'token-of-ci',
      'redis-password',
      'otlp-value',
      'static-value',
      'p%40ss',
      'p@ss',
      'in-query',
      'only-a-token',
    ]),
  )
  t.same(new Set(names), new Set(['X-Key', 'x-otlp', 'X-Static', 'X-Passed', 'X-Required']))
  t.end()
})

t.test('no text keeps a known secret, and none takes long', (t) => {
  assert(
    property(
      string({ minLength: 6, unit: 'binary' }),
      string(),
      string(),
      (secret, before, after) => {
        const bare = secret.trim()
        pre(bare.length >= 6 && !'<redacted>'.includes(bare))
        const redactor = new Redactor({ values: [secret] })
        return !redactor
          .text(before + secret + after)
          .replaceAll('<redacted>', '\0')
          .includes(bare)
      },
    ),
  )
  const redactor = new Redactor({ values: [] })
  for (const piece of [
    '?',
    '&a',
    'a',
    'token',
    'a://',
    'Bearer ',
    '-----BEGIN PRIVATE KEY-----',
    'eyJ',
    'A_-',
    'cookie:',
  ])
    t.ok(redactor.text(piece.repeat(1_000_000 / piece.length)).length < 200_000, piece)
  t.end()
})
