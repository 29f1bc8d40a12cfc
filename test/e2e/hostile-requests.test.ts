/** Requests that no well-behaved client sends: framing, methods, headers, names, credentials. After each the adapter serves others as before. */
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'
import {
  askRaw,
  chunked,
  errorCode,
  HOST,
  mcpPost,
  pathOf,
  RawConnection,
  sized,
} from '../support/raw-http.ts'

const rig = await FileRig.start({ core: { workers: 2 } })
const session = await rig.openSession()
t.teardown(() => rig.stop())

const inSession = `Mcp-Session-Id: ${session}\r\n`
const ping = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' })

t.test('each malformed or unwelcome request is answered with what is wrong with it', async (t) => {
  const cases: readonly (readonly [
    title: string,
    request: string,
    status: number,
    code: string,
  ])[] = [
    ['an unknown path', `GET /nowhere HTTP/1.1\r\n${HOST}\r\n`, 404, 'ADAPTER_ROUTE_UNKNOWN'],
    ['broken percent escapes', `GET /%zz HTTP/1.1\r\n${HOST}\r\n`, 404, 'ADAPTER_ROUTE_UNKNOWN'],
    ['OPTIONS', `OPTIONS /mcp/files HTTP/1.1\r\n${HOST}\r\n`, 405, 'ADAPTER_METHOD_NOT_ALLOWED'],
    ['TRACE', `TRACE /mcp/files HTTP/1.1\r\n${HOST}\r\n`, 405, 'ADAPTER_METHOD_NOT_ALLOWED'],
    [
      'PATCH',
      `PATCH /mcp/files HTTP/1.1\r\n${HOST}${sized('{}')}\r\n{}`,
      405,
      'ADAPTER_METHOD_NOT_ALLOWED',
    ],
    [
      'a text body',
      `POST /mcp/files HTTP/1.1\r\n${HOST}Content-Type: text/plain\r\n${sized(ping)}\r\n${ping}`,
      415,
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
    ],
    [
      'no media type',
      `POST /mcp/files HTTP/1.1\r\n${HOST}${sized(ping)}\r\n${ping}`,
      415,
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
    ],
    [
      'Accept of HTML alone',
      `POST /mcp/files HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nAccept: text/html\r\n${sized(ping)}\r\n${ping}`,
      406,
      'ADAPTER_NOT_ACCEPTABLE',
    ],
    [
      'a GET that accepts no stream',
      `GET /mcp/files HTTP/1.1\r\n${HOST}${inSession}Accept: application/json\r\n\r\n`,
      406,
      'ADAPTER_NOT_ACCEPTABLE',
    ],
    [
      'a compressed body',
      mcpPost(`${inSession}Content-Encoding: gzip\r\n${sized(ping)}`, ping),
      415,
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
    ],
    ['no body', mcpPost(inSession), 400, 'ADAPTER_PARSE_ERROR'],
    [
      'two Host headers',
      `DELETE /mcp/files HTTP/1.1\r\n${HOST}Host: evil.example\r\n\r\n`,
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'two session ids',
      mcpPost(`${inSession}${inSession}${sized(ping)}`, ping),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'two media types',
      mcpPost(`Content-Type: text/plain\r\n${sized(ping)}`, ping),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'two equal lengths',
      mcpPost(`${sized(ping)}${sized(ping)}`, ping),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'two different lengths',
      mcpPost(`${sized(ping)}Content-Length: 3\r\n`, ping),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'two different lengths on an unknown path',
      `POST /nowhere HTTP/1.1\r\n${HOST}Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello`,
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    ['an empty length', mcpPost('Content-Length: \r\n'), 400, 'ADAPTER_HEADER_INVALID'],
    [
      'a coding beside chunked',
      mcpPost('Transfer-Encoding: gzip, chunked\r\n', chunked(ping)),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'an unknown transfer coding',
      mcpPost('Transfer-Encoding: xchunked\r\n', chunked(ping)),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'two transfer codings',
      mcpPost('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n', chunked(ping)),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'a header with broken UTF-8',
      mcpPost(`${inSession}Mcp-Name: a\xffb\r\n${sized(ping)}`, ping),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'a header with a DEL',
      mcpPost(`${inSession}Mcp-Name: a\x7fb\r\n${sized(ping)}`, ping),
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    ['no session id', mcpPost(sized(ping), ping), 400, 'ADAPTER_SESSION_REQUIRED'],
    [
      'an endless body on a GET',
      `GET /mcp/files HTTP/1.1\r\n${HOST}${inSession}Accept: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'an endless body on a DELETE',
      `DELETE /mcp/files HTTP/1.1\r\n${HOST}${inSession}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
      400,
      'ADAPTER_HEADER_INVALID',
    ],
    [
      'an endless body on a health probe',
      `POST /livez HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
      400,
      'ADAPTER_HEADER_INVALID',
    ],
  ]
  for (const [title, request, status, code] of cases) {
    const answer = await askRaw(rig.port, request)
    t.equal(answer.status, status, `${title}: ${answer.status}`)
    t.equal(errorCode(answer), code, `${title}: ${code}`)
    if (status === 405) t.equal(answer.headers.get('allow'), 'GET, POST, DELETE', `${title}: Allow`)
    t.ok(await rig.serves(session), 'others are served')
  }
})

t.test(
  'HEAD gets the headers of the answer and no body, so that the next answer is where the client looks for it',
  async (t) => {
    for (const [path, status] of [
      ['/livez', 200],
      ['/nowhere', 404],
      ['/mcp/files', 405],
      ['/upload/files', 405],
      ['/artifacts/files/x/y/z', 404],
    ] as const) {
      const connection = new RawConnection(rig.port, { headOnly: true })
      connection.send(`HEAD ${path} HTTP/1.1\r\n${HOST}\r\n`)
      const answer = await connection.response()
      t.equal(answer.status, status, path)
      t.ok(Number(answer.headers.get('content-length')) > 0, 'it says how long the body would be')
      connection.send(`HEAD /livez HTTP/1.1\r\n${HOST}\r\n`)
      await eventually(
        'a second answer on the connection',
        () => connection.responses().length === 2,
      )
      t.match(connection.text, /\r\n\r\nHTTP\/1\.1 200 OK\r\n/, 'and nothing is between the two')
      connection.destroy()
    }
  },
)

t.test(
  'framing that others may read differently: uWebSockets.js closes the connection without an answer',
  async (t) => {
    const cases: readonly (readonly [title: string, request: string])[] = [
      ['length and chunks', mcpPost(`${sized(ping)}Transfer-Encoding: chunked\r\n`, chunked(ping))],
      [
        'chunks and length',
        mcpPost('Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', chunked(ping)),
      ],
      ['a length with a sign', mcpPost(`Content-Length: +${ping.length}\r\n`, ping)],
      ['a negative length', mcpPost('Content-Length: -1\r\n', ping)],
      ['a hexadecimal length', mcpPost('Content-Length: 0x10\r\n', ping)],
      ['a list of lengths', mcpPost(`Content-Length: ${ping.length}, ${ping.length}\r\n`, ping)],
      ['a length beyond all numbers', mcpPost(`Content-Length: ${'9'.repeat(30)}\r\n`, ping)],
      [
        'a chunk size that is none',
        mcpPost('Transfer-Encoding: chunked\r\n', `zz\r\n${ping}\r\n0\r\n\r\n`),
      ],
      [
        'a chunk size beyond all numbers',
        mcpPost('Transfer-Encoding: chunked\r\n', `ffffffffffffffff\r\n${ping}\r\n0\r\n\r\n`),
      ],
      ['a method of no standard', `F!OO /mcp/files HTTP/1.1\r\n${HOST}\r\n`],
      [
        'two calls without waiting for the first answer',
        mcpPost(`${inSession}${sized(ping)}`, ping) + mcpPost(`${inSession}${sized(ping)}`, ping),
      ],
      ['hundreds of headers', `GET /livez HTTP/1.1\r\n${HOST}${'X-A: b\r\n'.repeat(2_000)}\r\n`],
      ['a header of 200 kB', `GET /livez HTTP/1.1\r\n${HOST}X-A: ${'a'.repeat(200_000)}\r\n\r\n`],
    ]
    for (const [title, request] of cases) {
      const connection = new RawConnection(rig.port).send(request)
      await connection.closed()
      t.notMatch(connection.text, /HTTP\/1\.1 2/, `${title}: closed, and not served`)
      t.ok(await rig.serves(session), 'others are served')
    }
  },
)

t.test(
  'an answer without a body ends where its headers end: HEAD of a file, and a file that did not change',
  async (t) => {
    const report = await rig.call(session, 'write_report', {
      filename: 'head.txt',
      content: 'hello',
    })
    const path = pathOf(/"download_url":"([^"]+)"/.exec(report.text)?.[1] ?? '')
    const head = new RawConnection(rig.port, { headOnly: true })
    head.send(`HEAD ${path} HTTP/1.1\r\n${HOST}\r\n`)
    const answer = await head.response()
    t.match([answer.status, answer.headers.get('content-length')], [200, '5'])
    const etag = answer.headers.get('etag') ?? ''
    head.send(`GET ${path} HTTP/1.1\r\n${HOST}If-None-Match: ${etag}\r\n\r\n`)
    await eventually('the second answer', () => head.responses().length === 2)
    const [, unchanged] = head.responses()
    t.equal(unchanged?.status, 304)
    t.notOk(unchanged?.headers.has('content-length'))
    head.send(`HEAD /livez HTTP/1.1\r\n${HOST}\r\n`)
    await eventually('the third answer on the same connection', () => head.responses().length === 3)
    head.destroy()
  },
)

t.test('a request hidden in the trailers of another is not served', async (t) => {
  const connection = new RawConnection(rig.port)
  connection.send(
    mcpPost('Transfer-Encoding: chunked\r\n', `${chunked(INITIALIZE).slice(0, -2)}XX`),
  )
  t.equal((await connection.response()).status, 200, 'the first request is answered')
  connection.send(`GET /livez HTTP/1.1\r\n${HOST}\r\n`)
  await connection.closed()
  t.equal(connection.responses().length, 1, 'then the connection is closed')
})

t.test('health probes may be pipelined', async (t) => {
  const connection = new RawConnection(rig.port)
  connection.send(`GET /livez HTTP/1.1\r\n${HOST}\r\n`.repeat(3))
  await eventually('three answers', () => connection.responses().length === 3)
  t.same(
    connection.responses().map(({ status }) => status),
    [200, 200, 200],
  )
  connection.destroy()
})

t.test(
  'Host and Origin: only names that nobody else can point here, and those that were configured',
  async (t) => {
    const guarded = await FileRig.start({
      core: {
        public_base_url: 'https://mcp.example.com/base',
        allowed_hosts: ['alias.example.org'],
        allowed_origins: ['https://app.example.net:8443'],
      },
    })
    t.teardown(() => guarded.stop())
    const ask = async (host: string, origin?: string): Promise<number> => {
      const line = origin === undefined ? '' : `Origin: ${origin}\r\n`
      const answer = await askRaw(
        guarded.port,
        mcpPost(`${line}${sized(INITIALIZE)}`, INITIALIZE).replace(HOST, `Host: ${host}\r\n`),
      )
      return answer.status
    }
    const hosts: readonly (readonly [host: string, status: number])[] = [
      ['localhost', 200],
      ['LOCALHOST:1234', 200],
      ['127.0.0.1', 200],
      ['10.1.2.3:80', 200],
      ['[::1]:8080', 200],
      ['adapter', 200],
      ['mcp.example.com', 200],
      ['mcp.example.com:443', 200],
      ['alias.example.org', 200],
      ['evil.example', 403],
      ['mcp.example.com.evil.example', 403],
      ['localhost.evil.example', 403],
      ['evil.example:127', 403],
      ['127.0.0.1.evil.example', 403],
      ['evil.example@localhost', 403],
      ['localhost/evil.example', 403],
      ['', 403],
    ]
    for (const [host, status] of hosts) t.equal(await ask(host), status, `Host ${host}: ${status}`)
    const origins: readonly (readonly [origin: string, status: number])[] = [
      ['https://app.example.net:8443', 200],
      ['https://mcp.example.com', 200],
      ['http://localhost:3000', 200],
      ['http://127.0.0.1', 200],
      ['http://[::1]:8080', 200],
      ['http://app.localhost:3000', 200],
      ['https://evil.example', 403],
      ['http://203.0.113.9', 403],
      ['http://[2001:db8::9]:8080', 403],
      ['http://127.0.0.1.evil.example', 403],
      ['http://neighbour', 403],
      ['https://app.example.net', 403],
      ['https://app.example.net:8443.evil.example', 403],
      ['null', 403],
      ['file://', 403],
      ['localhost', 403],
      ['chrome-extension://abcdef', 403],
    ]
    for (const [origin, status] of origins)
      t.equal(await ask('localhost', origin), status, `Origin ${origin}: ${status}`)
    for (const host of ['10.1.2.3:8932', '[2001:db8::1]:8932', 'adapter'])
      t.equal(await ask(host, `http://${host}`), 200, `a page of ours, asked for at ${host}`)
    t.equal(await ask('10.1.2.3:8932', 'http://10.1.2.3:9000'), 403, 'a page of a neighbour')
    const evil = await askRaw(
      guarded.port,
      `GET /upload/files HTTP/1.1\r\nHost: evil.example\r\n\r\n`,
    )
    t.equal(errorCode(evil), 'ADAPTER_HOST_REFUSED', 'file routes are guarded too')
  },
)

t.test('the token: asked for on every MCP request, and never passed on', async (t) => {
  const token = 'a-token-of-some-length'
  const locked = await FileRig.start({
    core: { auth: { enabled: true, token, header_name: 'X-Adapter-Token' } },
    server: {
      upstream: {
        url: rig.upstream.url,
        client_headers: { passthrough: ['X-Passed', 'Authorization'] },
      },
    },
  })
  t.teardown(() => locked.stop())
  const credential = { 'x-adapter-token': token }
  for (const [title, headers] of [
    ['missing', {}],
    ['wrong', { 'x-adapter-token': `${token}x` }],
    ['a prefix', { 'x-adapter-token': token.slice(0, -1) }],
    ['in another case', { 'x-adapter-token': token.toUpperCase() }],
    ['under another name', { authorization: `Bearer ${token}` }],
  ] as const) {
    const answer = await locked.post(INITIALIZE, undefined, headers)
    t.equal(answer.status, 401, `${title}: 401`)
    t.notMatch(answer.text, token, 'the answer does not tell it')
  }
  const twice = await askRaw(
    locked.port,
    mcpPost(
      `X-Adapter-Token: wrong\r\nX-Adapter-Token: ${token}\r\n${sized(INITIALIZE)}`,
      INITIALIZE,
    ),
  )
  t.equal(twice.status, 400, 'two tokens are none')
  const id = await locked.openSession(credential)
  const get = await fetch(`${locked.url}/mcp/files`, {
    headers: { accept: 'text/event-stream', 'mcp-session-id': id },
  })
  t.equal(get.status, 401, 'a session id is no credential')
  const before = rig.upstream.calls.length
  const called = await locked.call(
    id,
    'echo',
    {},
    { ...credential, 'x-passed': 'yes', cookie: 'c=1', 'x-other': 'no' },
  )
  t.equal(called.status, 200, called.text)
  const received = rig.upstream.calls[before]?.headers ?? {}
  t.equal(received['x-passed'], 'yes', 'a header on the list is passed on')
  for (const name of ['x-adapter-token', 'cookie', 'x-other'])
    t.notOk(name in received, `${name} is not`)
  t.notMatch(JSON.stringify(received), id, 'nor is our session id')
  t.notMatch(locked.replica.logs(), token, 'and the log does not hold it')
})

t.test('the bytes of a header that is passed on arrive as they were sent', async (t) => {
  const passing = await FileRig.start({
    server: { upstream: { url: rig.upstream.url, client_headers: { passthrough: ['X-Passed'] } } },
  })
  t.teardown(() => passing.stop())
  const id = await passing.openSession()
  const before = rig.upstream.calls.length
  const call = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: 'echo', arguments: {} },
  })
  const utf8 = Buffer.from('a naïve 報告 b', 'utf8').toString('latin1')
  const answer = await askRaw(
    passing.port,
    mcpPost(`Mcp-Session-Id: ${id}\r\nX-Passed: ${utf8}\r\n${sized(call)}`, call),
  )
  t.equal(answer.status, 200, answer.body)
  t.equal(rig.upstream.calls[before]?.headers['x-passed'], utf8)
})
