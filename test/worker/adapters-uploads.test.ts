/* oxlint-disable no-await-in-loop -- each case is a call of its own, and the order is what is tested */
import { readdir, readFile, rm, symlink } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

import t from 'tap'

import { callHelperTool } from '../../src/worker/adapters/helper-tools.ts'
import { prepareToolCall } from '../../src/worker/adapters/tool-calls.ts'
import { hasAdapter } from '../../src/worker/catalogue/offered.ts'
import { at, firstText, openFixture, pathOf, prepared, refusalOf } from './adapters-fixture.ts'

const CONSUMER = consumer('send', 'file')

function consumer(tool: string, path: string) {
  return { type: 'upload_consumer', tools: [tool], file_path_argument: path }
}

t.test('a handle becomes the absolute path of its file, again and again', async (t) => {
  const { context, upload } = await openFixture(t, { adapters: [CONSUMER] })
  const handle = await upload(context.key, 'Bericht №1 報告.txt', 'hello')
  const params = {
    name: 'send',
    arguments: { file: handle, other: { deep: [1] } },
    _meta: { progressToken: 7, 'vendor/x': 1 },
    vendor: true,
  }
  const before = structuredClone(params)
  for (const round of ['first', 'second']) {
    const preparation = await prepareToolCall(context, 'send', params)
    t.equal(preparation?.kind, 'params', `${round}: the result needs no look`)
    if (preparation?.kind !== 'params') return
    const { arguments: args, ...others } = preparation.params
    const file = pathOf(preparation, 'file')
    t.strictSame(others, { name: 'send', _meta: params['_meta'], vendor: true })
    t.equal(await readFile(file, 'utf8'), 'hello')
    t.equal(
      at(args, 'other'),
      params.arguments.other,
      'arguments beside the path are not even copied',
    )
  }
  t.strictSame(params, before)
})

t.test('lists, objects and lists of objects are resolved along the path', async (t) => {
  const tools = { list: 'files', nested: 'input.files.path', third: 'rows.1.file' }
  const { context, upload } = await openFixture(t, {
    adapters: Object.entries(tools).map(([tool, path]) => consumer(tool, path)),
  })
  const [a, b] = await Promise.all([
    upload(context.key, 'a.txt', 'A'),
    upload(context.key, 'b.txt', 'B'),
  ])
  const list = await prepared(context, 'list', { files: [a, b, `${a}/a.txt`] })
  t.match(list.params, { arguments: { files: [/\/a\.txt$/, /\/b\.txt$/, /\/a\.txt$/] } })
  const nested = await prepared(context, 'nested', {
    input: { files: [{ path: a, keep: 1 }, { none: true }, { path: [b] }], keep: 2 },
  })
  t.match(nested.params['arguments'], {
    input: {
      files: [{ path: /a\.txt$/, keep: 1 }, { none: true }, { path: [/b\.txt$/] }],
      keep: 2,
    },
  })
  const third = await prepared(context, 'third', { rows: [{ file: 'as is' }, { file: b }] })
  t.match(third.params['arguments'], { rows: [{ file: 'as is' }, { file: /b\.txt$/ }] })
  for (const [tool, args] of [
    ['list', { files: [] }],
    ['nested', { input: { files: [] } }],
  ] as const) {
    t.strictSame((await prepared(context, tool, args)).params['arguments'], args)
  }
})

t.test('with uri_prefix the value is a percent-encoded file URI', async (t) => {
  const { context, upload } = await openFixture(t, {
    adapters: [{ ...CONSUMER, uri_prefix: true }],
  })
  const handle = await upload(context.key, 'ein Bild #1 ü%.txt', 'hello')
  const call = await prepared(context, 'send', { file: handle })
  const file = pathOf(call, 'file')
  t.match(file, /^file:\/\/\/.*\/ein%20Bild%20%231%20%C3%BC%25\.txt$/)
  t.equal(await readFile(fileURLToPath(file), 'utf8'), 'hello')
})

t.test('each wrong value gets its own explanation with a hint', async (t) => {
  const { context, stranger, upload, services } = await openFixture(t, { adapters: [CONSUMER] })
  const foreign = await upload(stranger.key, 'theirs.txt', 'secret')
  const { sessionId } = context.key
  const nowhere = `upload://sessions/${stranger.key.sessionId}/${'x'.repeat(22)}`
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [undefined, /"file" is missing/],
    [{}, /"file" is missing/],
    [{ other: 1 }, /"file" is missing/],
    ['no object', /"file" is missing/],
    [[], /"file" is missing/],
    [{ file: null }, /must be an upload handle or a list of upload handles, but it is null/],
    [{ file: 7 }, /but it is number/],
    [{ file: {} }, /but it is object/],
    [{ file: [foreign, 7] }, /item 1 is not a string/],
    [{ file: '/etc/passwd' }, /begins with upload:\/\/, but it is "\/etc\/passwd"/],
    [{ file: Array.from({ length: 1001 }, () => nowhere) }, /holds 1001 upload handles/],
    [{ file: '' }, /but it is ""/],
    [{ file: `data:${'A'.repeat(500)}` }, /but it is "data:A{95}"\./],
    [{ file: 'upload://' }, /is malformed/],
    [{ file: 'upload://sessions/../../etc' }, /is malformed/],
    [{ file: `upload://sessions/${sessionId}` }, /is malformed/],
    [{ file: `upload://sessions/${sessionId}/short` }, /is malformed/],
    [{ file: `upload://sessions/${sessionId}/${'x'.repeat(22)}/a/b` }, /is malformed/],
    [{ file: `upload://sessions/${sessionId}/${'x'.repeat(22)}?a=b` }, /is malformed/],
    [{ file: `upload://sessions/${sessionId}/${'x'.repeat(22)}` }, /There is no upload upload:/],
  ]
  for (const [args, expected] of cases) {
    const text = await refusalOf(context, 'send', args)
    t.match(text, expected, JSON.stringify(args)?.slice(0, 60))
    t.match(text, /docs_get_upload_url to get an upload URL/, 'the hint names the helper')
  }
  const [there, notThere] = await Promise.all([
    refusalOf(context, 'send', { file: foreign }),
    refusalOf(context, 'send', { file: nowhere }),
  ])
  t.match(there, /belongs to another session/)
  t.equal(
    there.replaceAll(foreign, 'X'),
    notThere.replaceAll(nowhere, 'X'),
    'nothing tells whether an upload of another session exists',
  )
  await services.store.closeSession(context.key)
  const gone = `upload://sessions/${sessionId}/${'x'.repeat(22)}`
  t.match(await refusalOf(context, 'send', { file: gone }), /session has ended/)
})

t.test('an expired upload and one whose file is gone are told apart', async (t) => {
  const expired = await openFixture(t, { adapters: [CONSUMER], policy: { uploadTtlMs: 1000 } })
  const old = await expired.upload(expired.context.key, 'a.txt', 'A')
  expired.passTime(2000)
  t.match(await refusalOf(expired.context, 'send', { file: old }), /has expired/)

  const { context, upload, dir } = await openFixture(t, { adapters: [CONSUMER] })
  const handle = await upload(context.key, 'a.txt', 'A')
  const call = await prepared(context, 'send', { file: handle })
  const file = pathOf(call, 'file')
  await rm(file)
  t.match(await refusalOf(context, 'send', { file: handle }), /"a\.txt" is missing in storage/)
  await symlink('/etc/passwd', file)
  const text = await refusalOf(context, 'send', { file: handle })
  t.match(text, /is missing in storage/, 'a link in its place is not a file')
  t.notMatch(text, dir, 'no path of ours is told')
})

t.test('names from prototypes lead nowhere and own ones are safe', async (t) => {
  const { context, upload } = await openFixture(t, {
    adapters: ['__proto__', 'constructor.name', '__proto__.file'].map((path, index) =>
      consumer(`t${index}`, path),
    ),
  })
  const handle = await upload(context.key, 'a.txt', 'A')
  for (const tool of ['t0', 't1', 't2']) {
    t.match(await refusalOf(context, tool, {}), /is missing/, tool)
  }
  const own: unknown = JSON.parse(`{"__proto__":"${handle}","constructor":{"name":1}}`)
  const call = await prepared(context, 't0', own)
  t.match(JSON.stringify(call.params), /"__proto__":"\/[^"]*\/a\.txt"/)
  const nested = await prepared(context, 't2', JSON.parse(`{"__proto__":{"file":"${handle}"}}`))
  t.match(JSON.stringify(nested.params), /"__proto__":\{"file":"\/[^"]*\/a\.txt"\}/)
  t.equal(Reflect.get({}, 'file'), undefined, 'no prototype was touched')
})

t.test(
  'tools without an adapter, and all of them while uploads are off, pass through',
  async (t) => {
    const on = await openFixture(t, { adapters: [CONSUMER] })
    t.equal(await prepareToolCall(on.context, 'other', { name: 'other' }), undefined)
    t.equal(hasAdapter(on.context.server, 'send'), true)
    t.equal(hasAdapter(on.context.server, 'other'), false)
    const off = await openFixture(t, {
      adapters: [CONSUMER],
      rest: { uploads: { enabled: false } },
    })
    t.equal(await prepareToolCall(off.context, 'send', { name: 'send' }), undefined)
    t.match(await callHelperTool(off.context), { isError: true })
  },
)

t.test('the hint does not name a helper that is disabled', async (t) => {
  const { context } = await openFixture(t, {
    adapters: [CONSUMER],
    server: { disabled_tools: ['docs_get_upload_url'] },
  })
  t.notMatch(await refusalOf(context, 'send', {}), 'docs_get_upload_url')
})

t.test('the helper answers a signed one-time URL for the caller’s session', async (t) => {
  const { context, services } = await openFixture(t, { adapters: [CONSUMER] })
  const [first, second] = await Promise.all([callHelperTool(context), callHelperTool(context)])
  const output = first['structuredContent']
  const uploadUrl = String(at(output, 'upload_url'))
  t.strictSame(JSON.parse(firstText(first)), output, 'the text is the same JSON')
  t.match(output, {
    server_id: 'docs',
    tool_name: 'docs_get_upload_url',
    method: 'POST',
    headers: {},
    auth_mode: 'signed_upload_credentials',
    credential_ttl_seconds: 120,
    field_name: 'file',
    supports_multiple_files: true,
    sha256_required: false,
    sha256_field_name: 'sha256',
    sha256_per_file: true,
    session_id: context.key.sessionId,
  })
  const url = new URL(uploadUrl)
  t.equal(url.origin + url.pathname, 'https://mcp.example.com/upload/docs')
  const nowSeconds = Math.floor(Date.now() / 1000)
  const verdict = services.signer.verifyUpload('docs', url.searchParams, nowSeconds)
  t.match(verdict, { ok: true, grant: { sessionId: context.key.sessionId } })
  t.match(services.signer.verifyUpload('docs', url.searchParams, nowSeconds + 122), {
    reason: 'expired',
  })
  t.not(JSON.stringify(second), JSON.stringify(first), 'every URL is another')
  t.match(at(output, 'example_curl'), `'${uploadUrl}'`)
  t.match(at(output, 'example_curl_put'), '&filename=')
  t.notMatch(at(output, 'example_curl'), 'sha256=')
})

t.test('where digests are required the examples show them', async (t) => {
  const { context } = await openFixture(t, {
    adapters: [CONSUMER],
    rest: { uploads: { require_sha256: true } },
  })
  const { structuredContent } = await callHelperTool(context)
  t.match(structuredContent, {
    sha256_required: true,
    example_curl: /-F 'sha256=/,
    example_curl_multiple: /-F 'sha256=.* -F 'sha256=/,
    example_curl_put: /&sha256=/,
    integrity_note: /required/,
  })
})

const BOTH = [
  consumer('convert', 'file'),
  { type: 'artifact_producer', tools: ['convert'], output_path_argument: 'output' },
]

t.test('a call that takes a file and makes one asks the store for both at once', async (t) => {
  const { context, services, upload } = await openFixture(t, { adapters: BOTH })
  const file = await upload(context.key, 'in.txt', 'hello')
  const log: string[] = []
  const { store } = services
  const resolve = store.resolveUploads.bind(store)
  const allocate = store.allocateArtifact.bind(store)
  store.resolveUploads = async (...args) => {
    log.push('resolve')
    const answer = await resolve(...args)
    log.push('answer')
    return answer
  }
  store.allocateArtifact = async (...args) => {
    log.push('allocate')
    const answer = await allocate(...args)
    log.push('answer')
    return answer
  }
  const call = await prepared(context, 'convert', { file, output: 'out.txt' })
  t.strictSame(log, ['resolve', 'allocate', 'answer', 'answer'])
  t.equal(await readFile(pathOf(call, 'file'), 'utf8'), 'hello')
  t.match(pathOf(call, 'output'), /\/artifacts\/[^/]+\/out\.txt$/)
  await call.abandon()
})

t.test('an upload that is not usable leaves nothing allocated', async (t) => {
  const { context, services, upload } = await openFixture(t, { adapters: BOTH })
  const file = await upload(context.key, 'in.txt', 'hello')
  const args = { file: `${file.slice(0, -4)}AAAA`, output: 'out.txt' }
  t.match(await refusalOf(context, 'convert', args), 'There is no upload')
  t.match(await services.store.inventory(), { pendingArtifacts: 0, uploads: 1 })
  const directory = services.files.sessionDir(context.key)
  t.strictSame(await readdir(directory), ['uploads'], 'nor a directory')
})

t.test('what is wrong with an upload is told before that there is no room', async (t) => {
  const policy = { maxArtifactsPerSession: 0 }
  const { context, upload } = await openFixture(t, { adapters: BOTH, policy })
  const file = await upload(context.key, 'in.txt', 'hello')
  const wrong = { file: `${file.slice(0, -4)}AAAA`, output: 'out.txt' }
  t.match(await refusalOf(context, 'convert', wrong), 'There is no upload')
  t.match(await refusalOf(context, 'convert', { file, output: 'out.txt' }), 'as many artifacts')
})
