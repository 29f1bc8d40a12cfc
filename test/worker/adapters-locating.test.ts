/* oxlint-disable no-await-in-loop -- each case is a call of its own, and the order is what is tested */
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import t from 'tap'

import {
  artifactMeta,
  at,
  blocksOf,
  callWithText,
  contentOf,
  firstText,
  leftovers,
  openFixture,
  prepared,
} from './adapters-fixture.ts'

const PNG = Buffer.from('89504e470d0a1a0a0000', 'hex')
const INJECTING = { type: 'artifact_producer', tools: ['make'], output_path_argument: 'path' }

function locating(mode: string, rest: object = {}) {
  return { type: 'artifact_producer', tools: ['make'], output_locator: { mode, ...rest } }
}

t.test('Playwright’s results are resolved against the workspace', async (t) => {
  const { context, write } = await openFixture(t, { adapters: [locating('regex')] })
  await write('workspace/shared/out/page.png', PNG)
  await write('workspace/x.png', PNG)
  await write('workspace/.playwright-mcp/page-2026-11-22T19-24-01-123Z.png', PNG)
  await write('workspace/my page (1).png', PNG)
  await write('workspace/dir with blanks/a b.pdf', '%PDF-')
  const code = "### Ran Playwright code\n```js\nawait page.screenshot({path: 'nothing'});\n```"
  const texts = [
    '### Result\n- [Screenshot of viewport](shared/out/page.png)\n' + code,
    `### Result\n- [Screenshot of viewport](./x.png)\n${code}`,
    '- [Screenshot](.playwright-mcp/page-2026-11-22T19-24-01-123Z.png)',
    'Saved as .playwright-mcp/page-2026-11-22T19-24-01-123Z.png.',
    '- [Page](my%20page%20(1).png)',
    '- [Page](<my page (1).png>)',
    'wrote `dir with blanks/a b.pdf`, see https://example.com/x.png',
    'https://example.com/shared/out/page.png and http://h/x.png were opened; result: "./x.png"',
    `Saved to: ${join(context.server.upstream.workspaceRoot ?? '', 'dir with blanks/a b.pdf')}\nbye`,
    `See file://${context.server.upstream.workspaceRoot}/my%20page%20(1).png.`,
    `(${context.server.upstream.workspaceRoot}/x.png).`,
    `nothing.png does not exist, ./neither.png too, but ./x.png does`,
  ]
  for (const text of texts) {
    const result = await callWithText(context, 'make', text)
    t.match(artifactMeta(result), { filename: /\.(png|pdf)$/ }, text.slice(0, 70))
    t.notOk(result['isError'], firstText(result))
  }
})

t.test('the built-in pattern takes nothing out of addresses', async (t) => {
  const { context, write } = await openFixture(t, { adapters: [locating('regex')] })
  await write('workspace/x.png', PNG)
  await write('workspace/h/x.png', PNG)
  for (const text of [
    'https://h/x.png',
    '[a](https://h/x.png)',
    '<http://h/x.png>',
    'ftp://h/x.png',
    'data:image/png;base64,h/x.png',
    'artifact://h/x.png',
  ]) {
    t.match(await callWithText(context, 'make', text), { isError: true }, text)
  }
})

t.test('hostile text can not hold the thread up', async (t) => {
  const { context } = await openFixture(t, { adapters: [locating('regex')] })
  const started = performance.now()
  for (const piece of [
    '[',
    '](',
    '`',
    '"',
    'a',
    '/a',
    'a/',
    '((',
    '<',
    ' /',
    "'",
    '![a](',
    'a.',
    '.',
    '\t',
  ]) {
    const text = piece.repeat(400_000 / piece.length)
    t.match(await callWithText(context, 'make', text), { isError: true }, piece)
  }
  t.ok(performance.now() - started < 15_000, `${performance.now() - started} ms`)
})

t.test('hostile repetitions are scanned in linear time, wherever they stand', async (t) => {
  const shapes = [
    `](${' '.repeat(250_000)}`,
    `](${'\t '.repeat(100_000)}"`,
    '](<)'.repeat(60_000),
    `](${'(a)'.repeat(80_000)}`,
    '](a<)'.repeat(50_000),
    `/${'.'.repeat(250_000)}a`,
    `/${'.'.repeat(4_000)}a\n`.repeat(60),
    '(a'.repeat(125_000),
    `${'('.repeat(254)}/ `.repeat(900),
    `${'*'.repeat(250_000)}/`,
  ]
  const { context } = await openFixture(t, { adapters: [locating('regex')] })
  for (const shape of shapes) {
    t.match(await callWithText(context, 'make', shape), { isError: true }, shape.slice(0, 20))
  }
  const adapters = [locating('structured', { output_path_key: 'x' })]
  const other = await openFixture(t, { adapters })
  for (const shape of [...shapes, `/${'. '.repeat(500_000)}a`, `/${')'.repeat(1_000_000)}a`]) {
    const call = await prepared(other.context, 'make', {})
    const { result } = await call.finish({ content: [], structuredContent: { x: `/${shape}` } })
    t.match(result, { isError: true }, shape.slice(0, 20))
  }
})

t.test('a link’s target is taken with brackets, blanks, titles and parentheses', async (t) => {
  const { context, write } = await openFixture(t, { adapters: [locating('regex')] })
  await write('workspace/a b (1).png', PNG)
  for (const text of [
    '[x]( \t a b (1).png  )',
    '[x](<a b (1).png> "A title")',
    '[x](a b (1).png "A title")',
    '[x](none (2).png)[y](a b (1).png)',
    '[x](never closed [y](a b (1).png)',
  ]) {
    const meta = artifactMeta(await callWithText(context, 'make', text))
    t.match(meta, { filename: 'a b (1).png' }, text)
  }
})

t.test('an embedded file with an endless address gets a plain name', async (t) => {
  const { context } = await openFixture(t, { adapters: [locating('embedded')] })
  const call = await prepared(context, 'make', {})
  const uri = `x://h/${'.'.repeat(500_000)}a`
  const { result } = await call.finish({
    content: [{ type: 'resource', resource: { uri, text: 'x', mimeType: 'text/plain' } }],
  })
  t.match(artifactMeta(result), { filename: 'artifact.txt' })
})

t.test('configured patterns are tried with all their matches until one is a file', async (t) => {
  const { context, write } = await openFixture(t, {
    adapters: [
      locating('regex', {
        output_path_regexes: ['never <(.*?)>', 'file <(?<p>.*?)>', '\\S+\\.txt'],
      }),
    ],
  })
  await write('workspace/b.png', PNG)
  await write('workspace/c.txt', 'text')
  const one = await callWithText(context, 'make', 'file <a.png> file <"b.png"> c.txt')
  t.match(artifactMeta(one), { filename: 'b.png' })
  const other = await callWithText(context, 'make', 'it is in c.txt')
  t.match(artifactMeta(other), { filename: 'c.txt', mime_type: 'text/plain' })
  t.match(await callWithText(context, 'make', 'none'), { isError: true })
})

t.test('structured results can name one file or several', async (t) => {
  const { context, write, workspace } = await openFixture(t, {
    adapters: [locating('structured', { output_path_key: 'out.files.path' })],
  })
  await write('workspace/a.txt', 'A')
  await write('workspace/b.txt', 'B')
  const finish = async (files: unknown) => {
    const call = await prepared(context, 'make', {})
    const { result } = await call.finish({ content: [], structuredContent: { out: { files } } })
    return result
  }
  const one = await finish({ path: 'a.txt' })
  t.equal(await contentOf(context, one), 'A')
  t.notOk(at(one, '_meta', 'artifacts'))
  const two = await finish([{ path: 'b.txt' }, { path: [join(workspace, 'a.txt')] }])
  t.match(two['_meta'], {
    artifact: { filename: 'b.txt' },
    artifacts: [{ filename: 'b.txt' }, { filename: 'a.txt' }],
  })
  t.equal(blocksOf(two).filter(({ type }) => type === 'resource_link').length, 2)
  const some = await finish([{ path: 'b.txt' }, { path: '/etc/passwd' }])
  t.match(some['_meta'], { artifact: { filename: 'b.txt' } })
  t.match(blocksOf(some).at(-1), { text: /1 more of the tool's files could not be kept/ })
  for (const none of [undefined, 7, {}, { path: 7 }, { path: '' }, { path: 'gone.txt' }]) {
    const result = await finish(none)
    t.match(result, { isError: true, content: [{ text: /make ran, but the file/ }] })
    t.match(result['structuredContent'], { out: {} }, 'what the tool said is kept')
  }
})

t.test(
  'a tool that ignored the path is helped by the locator, then by embedded bytes',
  async (t) => {
    const { context, write } = await openFixture(t, {
      adapters: [{ ...INJECTING, output_locator: { mode: 'structured' } }],
    })
    await write('workspace/made/a.txt', 'A')
    const call = await prepared(context, 'make', { path: 'chosen' })
    const named = await call.finish({
      content: [],
      structuredContent: { x: ['none', { y: 'made/a.txt' }] },
    })
    t.match(
      artifactMeta(named.result),
      { filename: 'chosen.txt' },
      'the chosen name, the real extension',
    )
    t.equal(await contentOf(context, named.result), 'A')
    const again = await prepared(context, 'make', { path: 'pic' })
    const data = PNG.toString('base64')
    const embedded = await again.finish({
      content: [{ type: 'image', data, mimeType: 'image/png' }],
    })
    t.match(artifactMeta(embedded.result), { filename: 'pic.png', mime_type: 'image/png' })
    t.strictSame(await leftovers(context), { files: 2, records: 2 })
  },
)

t.test('embedded files are decoded, checked and named', async (t) => {
  const { context } = await openFixture(t, { adapters: [locating('embedded')] })
  const data = PNG.toString('base64')
  const cases: readonly (readonly [object, string, string])[] = [
    [{ type: 'image', data, mimeType: 'image/png' }, 'artifact.png', 'image/png'],
    [{ type: 'audio', data: 'AAAA', mimeType: 'audio/wav' }, 'artifact.wav', 'audio/wav'],
    [
      { type: 'resource', resource: { uri: 'file:///a/b%20c.bin', blob: 'AAEC' } },
      'b c.bin',
      'application/octet-stream',
    ],
    [
      {
        type: 'resource',
        resource: { uri: 'x://h', text: 'ünï', mimeType: 'text/csv; charset=x' },
      },
      'artifact.csv',
      'text/csv',
    ],
    [
      { type: 'resource', resource: { uri: 'x:/a/..%2F..%2Fpw', text: 'x' } },
      'pw.txt',
      'text/plain',
    ],
  ]
  for (const [block, filename, mimeType] of cases) {
    const call = await prepared(context, 'make', {})
    const broken = { type: 'image', data: 'no base64!', mimeType: 'image/png' }
    const { result } = await call.finish({ content: [null, 7, broken, block] })
    t.match(artifactMeta(result), { filename, mime_type: mimeType })
  }
  for (const content of [[], undefined, 'odd', [{ type: 'image', data: '%', mimeType: 'a/b' }]]) {
    const call = await prepared(context, 'make', {})
    const { result } = await call.finish(content === undefined ? {} : { content })
    t.match(result, { isError: true })
  }
})

t.test('nothing outside the caller’s own places is ever taken', async (t) => {
  const fixture = await openFixture(t, { adapters: [locating('regex')] })
  const { context, stranger, dir, workspace, services, write, upload } = fixture
  const theirs = await upload(stranger.key, 'theirs.txt', 'secret of another session')
  const theirPath = join(
    services.files.sessionDir(stranger.key),
    'uploads',
    theirs.split('/').at(-1) ?? '',
    'theirs.txt',
  )
  t.equal(await readFile(theirPath, 'utf8'), 'secret of another session')
  const database = services.config.statePersistence.disk.localPath
  const secret = await write('root/state/signing-secret', 'key')
  await mkdir(dirname(database), { recursive: true })
  await writeFile(database, 'database')
  await writeFile(`${database}-wal`, 'log')
  await write('outside/file.txt', 'outside')
  await write('root/other.txt', 'elsewhere in the storage')
  await write('workspace/inside/a.txt', 'a')
  await symlink('/etc/passwd', join(workspace, 'link.txt'))
  await symlink(join(workspace, 'inside/a.txt'), join(workspace, 'link-inside.txt'))
  await symlink(join(dir, 'outside'), join(workspace, 'parent'))
  await symlink(theirPath, join(workspace, 'theirs.txt'))
  await symlink(dirname(theirPath), join(services.files.sessionDir(context.key), 'linked')).catch(
    async () => {
      await mkdir(services.files.sessionDir(context.key), { recursive: true })
      await symlink(dirname(theirPath), join(services.files.sessionDir(context.key), 'linked'))
    },
  )
  const own = services.files.sessionDir(context.key)
  const attacks = [
    '/etc/passwd',
    'file:///etc/passwd',
    theirPath,
    `file://${theirPath}`,
    database,
    `${database}-wal`,
    secret,
    join(dir, 'outside/file.txt'),
    join(dir, 'root/other.txt'),
    '../outside/file.txt',
    './../outside/file.txt',
    '..%2Foutside%2Ffile.txt',
    `${workspace}/../outside/file.txt`,
    `${own}/../${stranger.key.sessionId}/uploads/${theirs.split('/').at(-1)}/theirs.txt`,
    './link.txt',
    './link-inside.txt',
    './parent/file.txt',
    './theirs.txt',
    `${own}/linked/theirs.txt`,
    './inside',
    '/dev/zero',
    '/proc/self/environ',
    'a\0b',
  ]
  for (const attack of attacks) {
    for (const text of [attack, `[x](${attack})`, `\`${attack}\``]) {
      t.match(await callWithText(context, 'make', text), { isError: true }, text)
    }
  }
  t.strictSame(await leftovers(context), { files: 0, records: 0 })
  t.match(await callWithText(context, 'make', './inside/a.txt'), { _meta: { artifact: {} } })
})

t.test(
  'a session directory that was replaced by a link to another session opens nothing',
  async (t) => {
    const { context, stranger, services, upload } = await openFixture(t, {
      adapters: [locating('regex')],
      workspace: false,
    })
    const handle = await upload(stranger.key, 'theirs.txt', 'secret')
    const relative = `uploads/${handle.split('/').at(-1)}/theirs.txt`
    await symlink(services.files.sessionDir(stranger.key), services.files.sessionDir(context.key))
    // Not even opened: an error of the storage would come too late.
    const notFound = { isError: true, content: [{ text: /was not found/ }] }
    t.match(await callWithText(context, 'make', `./${relative}`), notFound)
    const path = join(services.files.sessionDir(context.key), relative)
    t.match(await callWithText(context, 'make', path), notFound)
  },
)

t.test('a workspace above the storage still hides other sessions and the state', async (t) => {
  const first = await openFixture(t, { adapters: [locating('regex')] })
  const { dir, stranger, services, upload, write } = first
  const handle = await upload(stranger.key, 'theirs.txt', 'secret')
  const relative = `uploads/${handle.split('/').at(-1)}/theirs.txt`
  const theirPath = join(services.files.sessionDir(stranger.key), relative)
  const database = services.config.statePersistence.disk.localPath
  await write('root/state/signing-secret', 'key')
  await writeFile(`${database}-wal`, 'log')
  await write('free.txt', 'free')
  await write('root/tool-output/x.txt', 'output')
  const wide = {
    ...first.context,
    server: {
      ...first.context.server,
      upstream: { ...first.context.server.upstream, workspaceRoot: dir },
    },
  }
  for (const path of [theirPath, `${database}-wal`, join(dir, 'root/state/signing-secret')]) {
    t.match(await callWithText(wide, 'make', path), { isError: true }, path)
  }
  for (const path of ['./free.txt', 'root/tool-output/x.txt']) {
    t.match(await callWithText(wide, 'make', path), { _meta: { artifact: {} } }, path)
  }
})

t.test('state in the workspace itself is still hidden', async (t) => {
  const { context, dir, write, services } = await openFixture(t, { adapters: [locating('regex')] })
  await write('workspace/adapter.db', 'database')
  await write('workspace/adapter.db-wal', 'log')
  await write('workspace/other.txt', 'free')
  const { statePersistence } = services.config
  const disk = { ...statePersistence.disk, localPath: join(dir, 'workspace/adapter.db') }
  const config = { ...services.config, statePersistence: { ...statePersistence, disk } }
  const beside = { ...context, services: { ...services, config } }
  for (const path of ['./adapter.db', './adapter.db-wal']) {
    t.match(await callWithText(beside, 'make', path), { isError: true }, path)
  }
  t.match(await callWithText(beside, 'make', './other.txt'), { _meta: { artifact: {} } })
})

t.test('configured roots count only with the policy that allows them', async (t) => {
  const outside = await openFixture(t, { adapters: [locating('regex')] })
  const path = await outside.write('allowed/a.txt', 'A')
  t.match(await callWithText(outside.context, 'make', path), { isError: true })
  const roots = [join(outside.dir, 'allowed'), join(outside.dir, 'not there')]
  const { context } = await openFixture(t, {
    adapters: [locating('regex')],
    storage: {
      artifact_locator_policy: 'allow_configured_roots',
      artifact_locator_allowed_roots: roots,
    },
  })
  t.equal(await contentOf(context, await callWithText(context, 'make', path)), 'A')
  t.match(await callWithText(context, 'make', `${roots[0]}-not/a.txt`), { isError: true })
})

t.test('a file that moves while it is located is not mistaken', async (t) => {
  const { context, write, workspace, dir } = await openFixture(t, { adapters: [locating('regex')] })
  await write('outside/a.txt', 'outside')
  await write('workspace/sub/a.txt', 'inside')
  const swapping = new AbortController()
  const swapper = (async () => {
    while (!swapping.signal.aborted) {
      await rename(join(workspace, 'sub'), join(workspace, 'away'))
      await symlink(join(dir, 'outside'), join(workspace, 'sub'))
      await rm(join(workspace, 'sub'))
      await rename(join(workspace, 'away'), join(workspace, 'sub'))
    }
  })()
  const taken = new Set<string>()
  for (let round = 0; round < 50; round++) {
    const result = await callWithText(context, 'make', './sub/a.txt')
    if (result['isError'] !== true) taken.add(await contentOf(context, result))
  }
  swapping.abort()
  await swapper
  taken.delete('inside')
  t.strictSame([...taken], [])
})
