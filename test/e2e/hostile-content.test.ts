/** Input that is well-formed HTTP and means harm: paths, links, forms, JSON. What is refused leaves nothing behind. */
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'

import { within } from '../support/eventually.ts'
import { FileRig, uploadAnswer } from '../support/file-rig.ts'
import { watchMemory } from '../support/process-stats.ts'
import { askRaw, errorCode, HOST, mcpPost, pathOf, sized } from '../support/raw-http.ts'

t.setTimeout(600_000)

const rig = await FileRig.start({ uploads: { max_file_bytes: '1Mi' } })
const session = await rig.openSession()
t.teardown(() => rig.stop())

const inSession = `Mcp-Session-Id: ${session}\r\n`
const served = (): Promise<boolean> => rig.serves(session)

const echo = (args: string): string =>
  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":${args}}}`

/** Every file below the sessions' directory, relative to it. */
async function storedFiles(): Promise<string[]> {
  const entries = await readdir(join(rig.replica.root, 'sessions'), {
    recursive: true,
    withFileTypes: true,
  }).catch(() => [])
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name)
    .toSorted()
}

// oxlint-disable-next-line no-control-regex -- control characters are part of what must not be there
const UNSAFE_NAME = /[/\\\u0000-\u001f]|^\.{1,2}$|^$/

const TRAVERSALS = [
  '..',
  '../../etc/passwd',
  '..%2f..%2fetc%2fpasswd',
  '%2e%2e/%2e%2e/etc/passwd',
  '%252e%252e%252fetc%252fpasswd',
  '..%5c..%5cetc%5cpasswd',
  '..\\..\\etc\\passwd',
  '%00',
  'a%00.txt',
  '%c0%ae%c0%ae%c0%afetc%c0%afpasswd',
  '/etc/passwd',
  '~root',
  'a'.repeat(5_000),
]

t.test(
  'paths out of the storage in ids are answered as unknown, in every place of a URL',
  async (t) => {
    const report = await rig.call(session, 'write_report', { filename: 'r.txt', content: 'secret' })
    const good = new URL(/"download_url":"([^"]+)"/.exec(report.text)?.[1] ?? '')
    const [, , , , artifactId = ''] = good.pathname.split('/')
    for (const evil of TRAVERSALS) {
      for (const path of [
        `/artifacts/${evil}/${session}/${artifactId}/r.txt`,
        `/artifacts/files/${evil}/${artifactId}/r.txt`,
        `/artifacts/files/${session}/${evil}/r.txt`,
        `/artifacts/files/${session}/${artifactId}/${evil}`,
        `/upload/${evil}`,
        `/upload/files/${evil}`,
        `/${evil}/mcp/files`,
      ]) {
        const answer = await askRaw(rig.port, `GET ${path} HTTP/1.1\r\n${HOST}${inSession}\r\n`)
        t.match(String(answer.status), /^40[034]$/, `${answer.status} for ${path.slice(0, 90)}`)
        t.notMatch(answer.body, /root:|secret/, 'and no content')
      }
      const answer = await rig.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, encodeURI(evil))
      t.equal(answer.status, 404, 'as a session id: unknown')
    }
    t.equal((await fetch(good)).status, 200, 'while the real one is served')
    t.ok(await served())
  },
)

t.test('paths in names and handles reach no file outside the session', async (t) => {
  const other = await rig.openSession()
  const foreign = await rig.upload(other, 'foreign')
  for (const path of [
    foreign,
    'upload://sessions/../../../etc/passwd',
    `upload://sessions/${session}/../../${other}/x`,
    `upload://sessions/${session}/..%2f..%2f..%2fetc%2fpasswd`,
    'upload:///etc/passwd',
    'upload://',
    `upload://sessions/${session}/${'A'.repeat(22)}`,
  ]) {
    const answer = await rig.call(session, 'read_file', { path })
    t.match(answer.message, { result: { isError: true } }, `refused: ${path.slice(0, 60)}`)
    t.notMatch(answer.text, /sha256/, 'the tool was not called')
  }
  for (const uri of [
    `artifact://sessions/${session}/../../../../etc/passwd`,
    `artifact://sessions/${other}/${'A'.repeat(22)}/x`,
    'artifact://../etc/passwd',
  ]) {
    const answer = await rig.post(
      { jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri } },
      session,
    )
    t.match(answer.message, { error: {} }, `refused: ${uri}`)
  }
  for (const name of [
    '../../../evil.txt',
    '/etc/evil.txt',
    '..\\..\\evil.txt',
    'a/../../evil.txt',
    '..',
    '.',
    '',
    'x\u0000.txt',
    'evil\u202etxt.exe',
    `${'ä'.repeat(500)}.txt`,
  ]) {
    const form = new FormData()
    form.append('file', new Blob(['content']), name)
    const answer = await uploadAnswer(
      await fetch(await rig.uploadUrl(session), { method: 'POST', body: form }),
    )
    t.equal(answer.status, 200, `a name is made safe: ${JSON.stringify(name.slice(0, 30))}`)
    const upload = answer.json['upload'] as { filename: string } // one file was sent
    t.notMatch(
      upload.filename,
      UNSAFE_NAME,
      `it is stored as ${JSON.stringify(upload.filename.slice(0, 30))}`,
    )
    t.ok(Buffer.byteLength(upload.filename) <= 255)
    const read = await rig.call(session, 'read_file', { path: answer.json['upload_handle'] })
    t.match(read.text, rig.replica.root, 'and the tool finds it in the storage')
  }
  t.ok(await served())
})

t.test('a link in place of a produced file is not followed, whatever it points at', async (t) => {
  const outside = join(rig.workspace, '..', `${session}-outside.txt`)
  await writeFile(outside, 'outside')
  const before = await storedFiles()
  for (const target of [
    '/etc/passwd',
    outside,
    '../../../../../../../../etc/passwd',
    '/proc/self/environ',
    '.',
  ]) {
    const answer = await rig.call(session, 'symlink_output', { filename: 'link.txt', target })
    t.equal(answer.status, 200)
    t.notMatch(answer.text, /"artifact_uri"|resource_link/, `no artifact from a link to ${target}`)
  }
  const root = join(rig.workspace, 'real')
  await mkdir(root)
  await symlink(root, join(rig.workspace, 'linked'))
  const after = await storedFiles()
  t.same(after, before, 'nothing is kept of them')
  t.equal(await readFile(outside, 'utf8'), 'outside')
  t.ok(await served())
})

t.test(
  'malformed forms are answered with what is wrong; nothing is stored and the URL stays good',
  async (t) => {
    const url = await rig.uploadUrl(session)
    const before = await storedFiles()
    const part = '--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    const type = 'multipart/form-data; boundary=B'
    const cases: readonly (readonly [
      title: string,
      contentType: string,
      body: string,
      status: number,
    ])[] = [
      ['no boundary', 'multipart/form-data', `${part}x\r\n--B--\r\n`, 400],
      ['an empty boundary', 'multipart/form-data; boundary=', `${part}x\r\n--B--\r\n`, 400],
      ['another boundary', 'multipart/form-data; boundary=C', `${part}x\r\n--B--\r\n`, 400],
      [
        'a boundary of 10 kB',
        `multipart/form-data; boundary=${'B'.repeat(10_000)}`,
        `${part}x\r\n--B--\r\n`,
        400,
      ],
      ['no end', type, `${part}x`, 400],
      ['only an end', type, '--B--\r\n', 400],
      ['nothing', type, '', 400],
      ['a part without headers', type, '--B\r\n\r\nx\r\n--B--\r\n', 400],
      [
        'a part whose headers do not end',
        type,
        `--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nX: ${'y'.repeat(100_000)}`,
        400,
      ],
      [
        'thousands of part headers',
        type,
        `--B\r\n${'X: y\r\n'.repeat(5_000)}\r\nx\r\n--B--\r\n`,
        400,
      ],
      [
        'another field with a file',
        type,
        part.replace('"file"', '"other"') + 'x\r\n--B--\r\n',
        400,
      ],
      [
        'thousands of fields',
        type,
        '--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'.repeat(5_000) + '--B--\r\n',
        400,
      ],
      ['thousands of files', type, `${part}x\r\n`.repeat(2_000) + '--B--\r\n', 400],
      [
        'a digest that is none',
        type,
        `${part}x\r\n--B\r\nContent-Disposition: form-data; name="sha256"\r\n\r\nnope\r\n--B--\r\n`,
        400,
      ],
      [
        'a digest of something else',
        type,
        `${part}x\r\n--B\r\nContent-Disposition: form-data; name="sha256"\r\n\r\n${'0'.repeat(64)}\r\n--B--\r\n`,
        422,
      ],
      [
        'two digests for one file',
        type,
        `${part}x\r\n${`--B\r\nContent-Disposition: form-data; name="sha256"\r\n\r\n${'0'.repeat(64)}\r\n`.repeat(2)}--B--\r\n`,
        400,
      ],
      ['a file too large', type, `${part}${'x'.repeat(1_100_000)}\r\n--B--\r\n`, 413],
      [
        'a small file before one too large',
        type,
        `${part}x\r\n${part}${'x'.repeat(1_100_000)}\r\n--B--\r\n`,
        413,
      ],
      ['JSON', 'application/json', '{}', 415],
      ['a form of another kind', 'application/x-www-form-urlencoded', 'file=x', 415],
    ]
    for (const [title, contentType, body, status] of cases) {
      const answer = await uploadAnswer(
        await fetch(url, { method: 'POST', headers: { 'content-type': contentType }, body }),
      )
      t.equal(answer.status, status, `${title}: ${JSON.stringify(answer.json)}`)
      t.match(answer.json, { error: /^ADAPTER_/, detail: /.{10}/ }, `${title}: says why`)
    }
    t.same(await storedFiles(), before, 'nothing is stored')
    t.match(await rig.inventory(), { reserved_bytes: 0 }, 'nothing is reserved')
    t.match(await rig.put(url, 'x'), { status: 200 }, 'the URL can still be used')
    t.ok(await served())
  },
)

t.test('forged, changed and foreign upload URLs are refused', async (t) => {
  const url = new URL(await rig.uploadUrl(session))
  const other = new URL(await rig.uploadUrl(await rig.openSession()))
  const changed = (change: (query: URLSearchParams) => void): URL => {
    const copy = new URL(url)
    change(copy.searchParams)
    return copy
  }
  const take = (name: string): string => other.searchParams.get(name) ?? ''
  for (const [title, forged] of [
    ['no signature', changed((query) => query.delete('mcp_upload_sig'))],
    ['a later expiry', changed((query) => query.set('mcp_upload_exp', '99999999999'))],
    [
      'another session',
      changed((query) => query.set('mcp_upload_session', take('mcp_upload_session'))),
    ],
    ['another nonce', changed((query) => query.set('mcp_upload_nonce', take('mcp_upload_nonce')))],
    [
      "another URL's signature",
      changed((query) => query.set('mcp_upload_sig', take('mcp_upload_sig'))),
    ],
    ['a parameter twice', changed((query) => query.append('mcp_upload_session', session))],
    [
      'a signature in upper case',
      changed((query) =>
        query.set('mcp_upload_sig', (query.get('mcp_upload_sig') ?? '').toUpperCase()),
      ),
    ],
  ] as const) {
    const answer = await rig.put(forged.href, 'x')
    t.match(answer, { status: 403, json: { error: 'ADAPTER_UPLOAD_TICKET_INVALID' } }, title)
  }
  t.match(await rig.put(url.href, 'x'), { status: 200 }, 'the real one is good')
})

t.test(
  'broken JSON, bombs and invalid UTF-8 are answered with a JSON-RPC error; memory and time stay small',
  async (t) => {
    const MB = 1_000_000
    const cases: readonly (readonly [title: string, body: string, code: string])[] = [
      ['half a message', '{"jsonrpc":"2.0","id":1', 'ADAPTER_PARSE_ERROR'],
      ['a comma too many', '{"jsonrpc":"2.0","id":1,"method":"ping",}', 'ADAPTER_PARSE_ERROR'],
      ['two values', '{}{}', 'ADAPTER_PARSE_ERROR'],
      ['a NUL', '{"jsonrpc":"2.0"\0}', 'ADAPTER_PARSE_ERROR'],
      ['not UTF-8', '{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', 'ADAPTER_PARSE_ERROR'],
      [
        'a surrogate in UTF-8',
        '{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}',
        'ADAPTER_PARSE_ERROR',
      ],
      ['an overlong slash', '{"jsonrpc":"2.0","id":1,"method":"\xc0\xaf"}', 'ADAPTER_PARSE_ERROR'],
      ['UTF-16', '\xff\xfe{\0}\0', 'ADAPTER_PARSE_ERROR'],
      ['a string', '"ping"', 'ADAPTER_INVALID_REQUEST'],
      ['null', 'null', 'ADAPTER_INVALID_REQUEST'],
      ['an empty batch', '[]', 'ADAPTER_INVALID_REQUEST'],
      ['a huge batch', `[${'{},'.repeat(5_000)}{}]`, 'ADAPTER_INVALID_REQUEST'],
      ['no version', '{"id":1,"method":"ping"}', 'ADAPTER_INVALID_REQUEST'],
      ['another version', '{"jsonrpc":"1.0","id":1,"method":"ping"}', 'ADAPTER_INVALID_REQUEST'],
      ['an object as id', '{"jsonrpc":"2.0","id":{},"method":"ping"}', 'ADAPTER_INVALID_REQUEST'],
      ['a fraction as id', '{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 'ADAPTER_INVALID_REQUEST'],
      ['a number as method', '{"jsonrpc":"2.0","id":1,"method":1}', 'ADAPTER_INVALID_REQUEST'],
      [
        'a list as params',
        '{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}',
        'ADAPTER_INVALID_REQUEST',
      ],
      ['4 million brackets', '['.repeat(4 * MB), 'ADAPTER_INVALID_REQUEST'],
      [
        '4 million nested objects',
        '{"a":'.repeat(4 * MB).slice(0, 15 * MB),
        'ADAPTER_INVALID_REQUEST',
      ],
      [
        'nesting just above the limit',
        echo('['.repeat(40_000) + ']'.repeat(40_000)),
        'ADAPTER_INVALID_REQUEST',
      ],
      ['5 million empty lists', echo(`[${'[],'.repeat(5 * MB - 1)}[]]`), 'ADAPTER_INVALID_REQUEST'],
      ['7 million numbers', echo(`[${'1,'.repeat(7 * MB)}1]`), 'ADAPTER_INVALID_REQUEST'],
      [
        'a string of 15 MB that does not end',
        `{"a":"${'\\"'.repeat(7 * MB)}`,
        'ADAPTER_PARSE_ERROR',
      ],
      ['a backslash without end', `{"a":"${'\\'.repeat(15 * MB)}`, 'ADAPTER_PARSE_ERROR'],
    ]
    const memory = watchMemory(rig.replica.pid)
    for (const [title, body, code] of cases) {
      const asked = askRaw(rig.port, mcpPost(`${inSession}${sized(body)}`, body))
      // What took more than linear time would take minutes.
      const answer = await within(title, asked, 20_000)
      t.equal(answer.status, 400, `${title}: 400`)
      t.equal(errorCode(answer), code, `${title}: ${code}`)
      t.ok(await served(), 'others are served')
    }
    const grownMib = memory.stop()
    t.ok(grownMib < 128, `memory grew by ${grownMib.toFixed(0)} MiB with messages of 15 MB`)
  },
)

t.test('messages that look like something else are read as what they are', async (t) => {
  const twice = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"read_file","arguments":{"path":"upload://x"}}}`
  const before = rig.upstream.calls.length
  const duplicate = await rig.post(twice, session)
  t.match(
    duplicate.message,
    { error: { code: -32600 } },
    'of two equal keys the upstream might take the other one: refused',
  )
  const escaped = String.raw`{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"read_file","arguments":{"path":"upload://x"}}}`
  const disguised = await rig.post(escaped, session)
  t.match(disguised.message, { result: { isError: true } }, 'escapes hide no wrapped tool')
  t.equal(rig.upstream.calls.length, before, 'neither reached the upstream')
  const proto = await rig.post(
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"constructor":{"prototype":{"polluted":true}}}}}`,
    session,
  )
  t.equal(proto.status, 200)
  t.match(proto.text, /prototype/, 'odd keys are passed on as they are')
  t.notOk('polluted' in {})
  t.equal(pathOf(await rig.uploadUrl(session)).startsWith('/upload/files?'), true)
  t.ok(await served())
})
