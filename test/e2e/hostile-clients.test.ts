/** Clients that are slow, endless or gone: what they hold is given up in time, and nobody else notices. */
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { FileRig } from '../support/file-rig.ts'
import { openDescriptors, watchMemory } from '../support/process-stats.ts'
import { HOST, mcpPost, pathOf, RawConnection, sized } from '../support/raw-http.ts'

t.setTimeout(600_000)

const rig = await FileRig.start({ core: { workers: 2 } })
const session = await rig.openSession()
t.teardown(() => rig.stop())

const inSession = `Mcp-Session-Id: ${session}\r\n`

t.test(
  'slow and silent clients are ended within 15 s and hold nobody up (uWebSockets.js closes without an answer)',
  { timeout: 30_000 },
  async (t) => {
    const silent: readonly (readonly [title: string, request: string])[] = [
      ['nothing at all', ''],
      ['half a request line', 'GET /li'],
      ['a request that ends in bare line feeds', 'GET /livez HTTP/1.1\nHost: localhost\n\n'],
      ['a header folded over two lines', `GET /livez HTTP/1.1\r\n${HOST}X-A: a\r\n b\r\n\r\n`],
      ['a NUL in a header', `GET /livez HTTP/1.1\r\n${HOST}X-A: a\0b\r\n\r\n`],
      ['a carriage return in a header', `GET /livez HTTP/1.1\r\n${HOST}X-A: a\rb\r\n\r\n`],
      ['a NUL in the path', `GET /a\0b HTTP/1.1\r\n${HOST}\r\n`],
      ['a space before the colon', 'GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n'],
      ['no Host', 'GET /livez HTTP/1.1\r\n\r\n'],
      ['a TLS greeting', '\x16\x03\x01\x02\x00\x01\x00'],
      ['HTTP/1.0', `GET /livez HTTP/1.0\r\n${HOST}\r\n`],
      ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
      ['sixty headers', `GET /livez HTTP/1.1\r\n${HOST}${'X-A: b\r\n'.repeat(60)}\r\n`],
      [
        'chunk extensions',
        mcpPost(`${inSession}Transfer-Encoding: chunked\r\n`, '2;a=b\r\n{}\r\n0\r\n\r\n'),
      ],
      ['a body that does not come', mcpPost(`${inSession}Content-Length: 100\r\n`, '{')],
    ]
    const connections = silent.map(([title, request]) => ({
      title,
      drip: '',
      connection: new RawConnection(rig.port).send(request),
    }))
    for (const [title, request, drip] of [
      ['headers byte by byte', `GET /livez HTTP/1.1\r\n${HOST}X-A: `, 'a'],
      ['headers without end', `GET /livez HTTP/1.1\r\n${HOST}`, 'X-A: b\r\n'],
      ['a body byte by byte', mcpPost(`${inSession}Content-Length: 1000\r\n`, '{'), ' '],
      ['chunks byte by byte', mcpPost(`${inSession}Transfer-Encoding: chunked\r\n`), '1\r\n \r\n'],
      [
        'an upload byte by byte',
        `PUT ${pathOf(await rig.uploadUrl(session))} HTTP/1.1\r\n${HOST}Content-Length: 1000\r\n\r\n`,
        'x',
      ],
    ] as const) {
      connections.push({ title, drip, connection: new RawConnection(rig.port).send(request) })
    }
    for (let i = 0; i < 100; i++)
      connections.push({
        title: 'one of 100 slow clients',
        drip: 'a',
        connection: new RawConnection(rig.port).send(`GET /livez HTTP/1.1\r\n${HOST}X-A: `),
      })
    const dripping = setInterval(() => {
      for (const { connection, drip } of connections)
        if (drip !== '' && !connection.isClosed) connection.send(drip)
    }, 300)
    const startedAtMs = Date.now()
    await eventually(
      'all of them are closed',
      async () => {
        // Before the slow ones are given up, or it has waited for them.
        const served = await within('a well-behaved call', rig.serves(session), 5_000)
        if (!served) throw new Error('a well-behaved call was not answered')
        return connections.every(({ connection }) => connection.isClosed)
      },
      15_000,
    )
    clearInterval(dripping)
    t.ok(Date.now() - startedAtMs > 5_000, 'and a merely slow client has its time')
    for (const { title, connection } of connections.slice(0, silent.length + 5))
      t.equal(connection.text, '', `${title}: no answer`)
  },
)

t.test(
  'a body larger than its limit is answered 413 however it comes, though the client keeps sending; memory stays flat',
  { timeout: 30_000 },
  async (t) => {
    const upload = pathOf(await rig.uploadUrl(session))
    const multipart = 'Content-Type: multipart/form-data; boundary=B\r\n'
    const filePart = '--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    const cases: readonly (readonly [title: string, head: string, status: number])[] = [
      ['a message of 900 MB, announced', mcpPost(`${inSession}Content-Length: 900000000\r\n`), 413],
      ['a message without end', mcpPost(`${inSession}Transfer-Encoding: chunked\r\n`), 413],
      [
        'an upload of 900 MB, announced',
        `PUT ${upload} HTTP/1.1\r\n${HOST}Content-Length: 900000000\r\n\r\n`,
        413,
      ],
      [
        'an upload without end',
        `PUT ${upload} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`,
        413,
      ],
      [
        'a form without end',
        `POST ${upload} HTTP/1.1\r\n${HOST}${multipart}Transfer-Encoding: chunked\r\n\r\n${filePart.length.toString(16)}\r\n${filePart}\r\n`,
        413,
      ],
      [
        'a form whose preamble has no end',
        `POST ${upload} HTTP/1.1\r\n${HOST}${multipart}Transfer-Encoding: chunked\r\n\r\n`,
        400,
      ],
      [
        'an upload without end to a forged URL',
        `PUT ${upload.slice(0, -4)}0000 HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`,
        403,
      ],
      [
        'a body without end to nowhere',
        `POST /nowhere HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`,
        404,
      ],
      [
        'a body without end with an unknown method',
        `PATCH /mcp/files HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`,
        405,
      ],
    ]
    const plain = Buffer.alloc(65_536, 'x')
    const chunk = Buffer.concat([Buffer.from('10000\r\n'), plain, Buffer.from('\r\n')])
    const memory = watchMemory(rig.replica.pid)
    for (const [title, head, status] of cases) {
      const connection = new RawConnection(rig.port).send(head)
      const sentBytes = await connection.pour(head.includes('chunked') ? chunk : plain, () => false)
      const [answer] = connection.responses()
      t.equal(answer?.status, status, `${title}: ${status}`)
      t.equal(answer?.headers.get('connection'), 'close', `${title}: the client is told to stop`)
      t.ok(sentBytes < 200_000_000, `${title}: cut off after ${sentBytes} bytes`)
      t.ok(await rig.serves(session), 'others are served')
    }
    t.match(await rig.put(rig.url + upload, 'x'), { status: 200 }, 'the upload URL is not used up')
    const grownMib = memory.stop()
    t.ok(grownMib < 64, `memory grew by ${grownMib.toFixed(0)} MiB`)
  },
)

t.test(
  'a client that reads the answer before it has sent all gets it whole, on a connection that goes on when little is left',
  async (t) => {
    const upload = pathOf(await rig.uploadUrl(session))
    const size = 12 * 1024 * 1024 // above the limit for a file, below what is taken in and dropped
    const connection = new RawConnection(rig.port)
    connection.send(`PUT ${upload} HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n\r\n`)
    t.equal((await connection.response()).status, 413)
    connection.send(Buffer.alloc(size)).send(`GET /livez HTTP/1.1\r\n${HOST}\r\n`)
    await eventually('the next request is answered', () => connection.responses().length === 2)
    connection.destroy()
  },
)

t.test('clients that leave at any moment leave nothing behind', { timeout: 30_000 }, async (t) => {
  const slow = JSON.stringify({
    jsonrpc: '2.0',
    id: 9,
    method: 'tools/call',
    params: { name: 'slow', arguments: { ms: 2_000 } },
  })
  const report = await rig.call(session, 'write_report', {
    filename: 'leave.txt',
    content: 'x'.repeat(3_000_000),
  })
  const download = /"download_url":"([^"]+)"/.exec(report.text)?.[1] ?? ''
  const phases: readonly (readonly [title: string, request: () => Promise<string>])[] = [
    ['in the request line', async () => 'POST /mc'],
    ['in the headers', async () => mcpPost('').slice(0, 80)],
    ['before the body', async () => mcpPost(`${inSession}Content-Length: 1000\r\n`)],
    [
      'in the body',
      async () => mcpPost(`${inSession}Content-Length: 1000000\r\n`, 'x'.repeat(500_000)),
    ],
    ['while the upstream works', async () => mcpPost(`${inSession}${sized(slow)}`, slow)],
    [
      'on a standing stream',
      async () => `GET /mcp/files HTTP/1.1\r\n${HOST}${inSession}Accept: text/event-stream\r\n\r\n`,
    ],
    [
      'in an upload',
      async () =>
        `PUT ${pathOf(await rig.uploadUrl(session))} HTTP/1.1\r\n${HOST}Content-Length: 1000000\r\n\r\n${'x'.repeat(300_000)}`,
    ],
    ['in a download', async () => `GET ${pathOf(download)} HTTP/1.1\r\n${HOST}\r\n`],
    [
      'in a refusal',
      async () =>
        `POST /nowhere HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
    ],
  ]
  const round = async (): Promise<void> => {
    for (const [, request] of phases) {
      const connection = new RawConnection(rig.port).send(await request())
      // Leave at different moments of the same phase.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 15))
      connection.socket.resetAndDestroy()
    }
  }
  for (let i = 0; i < 5; i++) await round() // threads, pools and connections that stay are there now
  t.ok(await rig.serves(session), 'others are served')
  const settled = async (limit: number): Promise<void> =>
    eventually(
      `at most ${limit} descriptors, now ${openDescriptors(rig.replica.pid)}`,
      () => openDescriptors(rig.replica.pid) <= limit,
    )
  const before = openDescriptors(rig.replica.pid)
  const memory = watchMemory(rig.replica.pid)
  for (let i = 0; i < 30; i++) await round()
  t.ok(await rig.serves(session), 'others are served')
  await settled(before + 8)
  t.ok(memory.stop() < 64, 'memory did not grow')
  await eventually(
    'nothing is reserved any more',
    async () => (await rig.inventory())['reserved_bytes'] === 0,
  )
  t.notMatch(rig.replica.logs(), /"level":[56]0/, 'nothing of this is an error of ours')
})
