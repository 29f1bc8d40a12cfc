/** An upstream that means harm, on the same worker as a well-behaved one, whose client notices nothing. */
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'

import t, { type Test } from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { FileRig } from '../support/file-rig.ts'
import { startNeighbour } from '../support/neighbour.ts'
import { watchMemory } from '../support/process-stats.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  startScriptedUpstream,
  type ReceivedRequest,
  type Script,
} from '../support/upstreams/scripted-upstream.ts'
import { initialize, messagesIn, open, POST_HEADERS, send, WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const MAX_GROWTH_MIB = 256

const scripted = await startScriptedUpstream({ capabilities: { tools: {}, resources: {} } })
/** Without mischief; it has a standalone stream, because one that had none would not be asked again. */
function behave(): void {
  scripted.scripts.clear()
  scripted.scripts.set('GET', (_request, response) => beginStream(response))
}
behave()
/** Answers each connection with whatever bytes a test has chosen, once a request has come. */
let raw: (socket: Socket) => void = (socket) => socket.destroy()
const sockets = new Set<Socket>()
const bytes = createServer((socket) => {
  sockets.add(socket)
  socket.on('error', () => {})
  socket.on('close', () => sockets.delete(socket))
  socket.once('data', () => raw(socket))
})
await new Promise<void>((resolve) => bytes.listen(0, '127.0.0.1', resolve))
const address = bytes.address()
const rawPort = typeof address === 'object' && address !== null ? address.port : 0

const rig = await FileRig.start({
  core: { workers: 1, max_response_message_bytes: '4Mi' },
  moreServers: [
    {
      id: 'hostile',
      mount_path: '/mcp/hostile',
      upstream: { url: scripted.url, hold_stream: true },
      tool_defaults: { tool_call_timeout_seconds: 2 },
      // So that listings are read.
      disabled_tools: ['hidden'],
      adapters: [
        {
          type: 'artifact_producer',
          tools: ['make'],
          output_path_argument: 'path',
          output_locator: { mode: 'regex' },
        },
      ],
    },
    {
      id: 'raw',
      mount_path: '/mcp/raw',
      upstream: { url: `http://127.0.0.1:${rawPort}/mcp` },
      tool_defaults: { tool_call_timeout_seconds: 2 },
    },
  ],
})
t.teardown(async () => {
  await rig.stop()
  await scripted.stop()
  for (const socket of sockets) socket.destroy()
  bytes.close()
})

const url = `${rig.url}/mcp/hostile`

/** Runs `misbehave` beside a client of the other server, which must not notice, and within bounded memory. */
function beside(title: string, misbehave: (t: Test) => Promise<void>): void {
  t.test(`${title}; the neighbour notices nothing`, async (t) => {
    const neighbour = await startNeighbour(rig)
    const memory = watchMemory(rig.replica.pid)
    try {
      await misbehave(t)
    } finally {
      behave()
      const { rounds, troubles } = await neighbour.stop()
      t.same(troubles, [], 'the neighbour got all that it asked for')
      t.ok(rounds > 0)
      const grownMib = memory.stop()
      t.ok(grownMib < MAX_GROWTH_MIB, `memory grew by ${grownMib.toFixed(0)} MiB`)
    }
    t.equal((await send(`${rig.url}/healthz`, { method: 'GET' })).status, 200)
  })
}

/** Answers a request with JSON text as it is. */
const text =
  (body: (id: string) => string): Script =>
  (request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(body(JSON.stringify(idOf(request))))
  }

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)

beside(
  'JSON of a hundred thousand levels or a million values is refused or passed on',
  async (t) => {
    const session = await WireSession.open(url)
    for (const bomb of [nested(100_000), `[${'{},'.repeat(1_200_000)}0]`]) {
      for (const [name, script] of [
        [
          'JSON',
          text((id) => `{"jsonrpc":"2.0","id":${id},"result":{"tools":${bomb},"content":${bomb}}}`),
        ],
        [
          'an event',
          (request, response) => {
            beginStream(response)
            response.end(
              `data: {"jsonrpc":"2.0","id":${JSON.stringify(idOf(request))},"result":{"tools":${bomb}}}\n\n`,
            )
          },
        ],
      ] as const satisfies readonly (readonly [string, Script])[]) {
        for (const method of ['tools/list', 'tools/call make', 'initialize'])
          scripted.scripts.set(method, script)
        for (const answer of [
          await session.request('tools/list'),
          await session.call('make', { path: 'x' }),
          await initialize(url),
        ]) {
          t.ok(
            answer.status === 502 || answer.status === 200,
            `${name} is answered ${answer.status}`,
          )
          t.ok(answer.body.length < 100_000, 'without the bomb')
          t.match(answer.body.slice(0, 1_000), /"code":1502/)
        }
      }
      scripted.scripts.set(
        'tools/call pass',
        text((id) => `{"jsonrpc":"2.0","id":${id},"result":{"content":${bomb}}}`),
      )
      const passed = await session.call('pass')
      t.equal(passed.status, 200, 'what nobody has to read passes as it is')
      t.ok(passed.body.includes(bomb))
    }
  },
)

beside(
  'answers with lengths that are lies are cut or ended, and are never taken for the next one',
  async (t) => {
    const result = '{"jsonrpc":"2.0","id":"init","result":{}}'
    const stolen =
      'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n"evil"'
    const head = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'
    const lies: readonly (readonly [what: string, answer: string, closes: boolean])[] = [
      [
        'too short, with another answer behind',
        `${head}Content-Length: 2\r\n\r\n{}${stolen}`,
        false,
      ],
      ['too long', `${head}Content-Length: 100000\r\n\r\n${result}`, true],
      ['two of them', `${head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} `, false],
      [
        'beside chunks',
        `${head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n${stolen}`,
        false,
      ],
      ['negative', `${head}Content-Length: -1\r\n\r\n{}`, false],
      ['enormous', `${head}Content-Length: 999999999999999999999\r\n\r\n{}`, false],
      ['chunks that lie', `${head}Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n{}`, true],
      ['nothing but another answer', `HTTP/1.1 204 No Content\r\n\r\n${stolen}`, false],
    ]
    for (const [what, answer, closes] of lies) {
      raw = (socket) => {
        if (closes) socket.end(answer)
        else socket.write(answer)
      }
      const got = await open(`${rig.url}/mcp/raw`, {
        headers: POST_HEADERS,
        body: '{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}',
      })
      await within(`an end: ${what}`, got.ended)
      t.notMatch(got.text(), /evil/, what)
      raw = (socket) => socket.end(`${head}Content-Length: ${result.length}\r\n\r\n${result}`)
      const next = await initialize(`${rig.url}/mcp/raw`)
      t.equal(next.status, 200, `the next is answered for itself, after: ${what}`)
      t.notMatch(next.body, /evil/)
    }
  },
)

beside(
  'heads without end, with thousands of headers or megabytes in one are given up',
  async (t) => {
    const bombs: readonly (readonly [what: string, next: (n: number) => string])[] = [
      ['thousands of headers', (n) => `X-${n}: y\r\n`.repeat(50)],
      ['one header without end', () => 'a'.repeat(10_000)],
      ['a status line without end', () => ' '.repeat(10_000)],
      ['interim answers without end', () => 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(100)],
    ]
    for (const [what, next] of bombs) {
      let sentBytes = 0
      raw = (socket) => {
        socket.write(
          what.startsWith('a status')
            ? 'HTTP/1.1 200'
            : what.startsWith('interim')
              ? ''
              : 'HTTP/1.1 200 OK\r\nX: ',
        )
        let n = 0
        const pour = (): void => {
          while (!socket.destroyed && sentBytes < 64 * 1024 ** 2) {
            const piece = next(n++)
            sentBytes += piece.length
            if (!socket.write(piece)) {
              socket.once('drain', pour)
              return
            }
          }
        }
        pour()
      }
      const answer = await initialize(`${rig.url}/mcp/raw`)
      t.equal(answer.status, 502, what)
      t.ok(sentBytes < 64 * 1024 ** 2, `${what}: cut after ${sentBytes} bytes`)
    }
  },
)

beside(
  'an answer that only drips is ended by its time limit or its client, and holds nothing up',
  async (t) => {
    raw = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n')
      const timer = setInterval(() => socket.write('X'), 50)
      socket.on('close', () => clearInterval(timer))
    }
    const controller = new AbortController()
    const dripped = open(`${rig.url}/mcp/raw`, {
      headers: POST_HEADERS,
      body: '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}',
      signal: controller.signal,
    }).then(
      ({ status }) => status,
      () => 'gone',
    )
    const session = await WireSession.open(url)
    scripted.scripts.set('tools/call drip', (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const timer = setInterval(() => response.write(' '), 50)
      response.on('close', () => clearInterval(timer))
    })
    const stream = await session.stream(
      session.message('tools/call', { name: 'drip', arguments: {} }),
    )
    await eventually('it drips', () => stream.bytes().length > 3)
    stream.close()
    await eventually('the upstream is let go', () =>
      scripted.requests('tools/call drip').every(({ isCut }) => isCut),
    )
    scripted.scripts.set('tools/call silent', () => {})
    t.match(
      (await session.call('silent')).body,
      /1504|timed? ?out|in time|within/i,
      'silence has an end',
    )
    controller.abort()
    t.ok(await within('the dripping head', dripped))
    await eventually('its connection is closed', () => sockets.size === 0)
  },
)

beside(
  'event streams without end, of comments, of events without an end and of messages, are bounded',
  async (t) => {
    const pieces: readonly (readonly [what: string, piece: string])[] = [
      ['comments', `: ${'c'.repeat(60_000)}\n\n`],
      ['one endless line', `data: ${'x'.repeat(60_000)}`],
      ['one endless event', `data: ${'x'.repeat(60_000)}\n`],
      ['an endless id', `id: ${'i'.repeat(60_000)}`],
      [
        'foreign answers',
        event({ jsonrpc: '2.0', id: 'nobody', result: { pad: 'p'.repeat(60_000) } }),
      ],
    ]
    const session = await WireSession.open(url)
    for (const [what, piece] of pieces) {
      const flood: Script = (_request, response) => {
        beginStream(response)
        const pour = (): void => {
          while (!response.destroyed && response.write(piece)) {
            // until it is full
          }
          if (!response.destroyed) response.once('drain', pour)
        }
        pour()
      }
      const earlier = scripted.requests('tools/call make').length
      const calls = (): readonly ReceivedRequest[] =>
        scripted.requests('tools/call make').slice(earlier)
      scripted.scripts.set('initialize', flood)
      t.equal((await initialize(url)).status, 502, `initialize: ${what}`)
      scripted.scripts.set('tools/call make', flood)
      const call = await session.stream(
        session.message('tools/call', { name: 'make', arguments: { path: 'x' } }),
      )
      call.pause()
      await eventually('the flood came', () => calls().length > 0)
      call.resume()
      await Promise.race([
        call.ended,
        eventually('some of it', () => call.bytes().length > 8 * 1024 ** 2),
      ])
      call.close()
      await eventually(`it is cut: ${what}`, () => calls().every(({ isCut }) => isCut))
      // The standalone stream is held though no client reads it.
      scripted.scripts.set('GET', flood)
      scripted.scripts.delete('initialize')
      const before = scripted.requests('GET').length
      const held = await WireSession.open(url)
      await eventually('the stream is held', () => scripted.requests('GET').length > before)
      t.equal((await held.request('ping')).status, 200, 'the session answers beside its flood')
      await held.delete()
      behave()
    }
  },
)

beside('answers that nobody asked for, twice, or with endless ids reach nobody else', async (t) => {
  const session = await WireSession.open(url)
  const other = await WireSession.open(url)
  const path = async (request: { json: unknown }): Promise<string> => {
    const { params } = request.json as { params: { arguments: { path: string } } } // a `tools/call make`
    await mkdir(dirname(params.arguments.path), { recursive: true })
    await writeFile(params.arguments.path, 'made')
    return params.arguments.path
  }
  scripted.scripts.set('tools/call make', async (request, response) => {
    const saved = await path(request)
    const id = idOf(request)
    const answer = {
      jsonrpc: '2.0',
      id,
      result: { content: [{ type: 'text', text: `saved ${saved}` }] },
    }
    beginStream(response)
    response.write(event({ jsonrpc: '2.0', id: 4711, result: { content: [] } }))
    response.write(event({ jsonrpc: '2.0', id: 'x'.repeat(1_000_000), result: {} }))
    response.write(event({ jsonrpc: '2.0', id: null, error: { code: 1, message: 'no' } }))
    response.write(event({ jsonrpc: '2.0', id: [id], result: {} }))
    response.write(event(answer, 'e'.repeat(100_000)))
    response.write(event(answer))
    response.end(event({ ...answer, result: { content: [{ type: 'text', text: 'second' }] } }))
  })
  const stream = await session.stream(
    session.message('tools/call', { name: 'make', arguments: { path: 'x' } }),
  )
  await stream.ended
  const answers = messagesIn(stream.text()).filter(
    ({ id, result }) => typeof id === 'number' && id !== 4711 && result !== undefined,
  )
  t.ok(JSON.stringify(answers[0]).includes('artifact://'), 'the first answer is the answer')
  t.notOk(
    stream.text().includes(`${rig.replica.root}/sessions`) &&
      answers.length > 1 &&
      JSON.stringify(answers.slice(1)).includes('artifact://'),
    'and makes the one artifact',
  )
  const listed = (await session.request('resources/list')).json().result as { resources: unknown[] } // as the specification has it
  t.equal(
    listed.resources.filter((entry) => JSON.stringify(entry).includes('artifact://')).length,
    1,
  )
  t.same(
    ((await other.request('resources/list')).json().result as { resources?: unknown[] })
      .resources ?? [],
    [],
    'another session has nothing',
  )

  for (const id of ['s'.repeat(60_000), 'a b', '../../etc', 'é', '', '{"a":1}']) {
    scripted.scripts.set('initialize', (request, response) =>
      sendJson(
        response,
        {
          jsonrpc: '2.0',
          id: idOf(request),
          result: {
            protocolVersion: '2025-06-18',
            capabilities: {},
            serverInfo: { name: 'h', version: '1' },
          },
        },
        { 'mcp-session-id': Buffer.from(id).toString('latin1') },
      ),
    )
    const answer = await initialize(url)
    t.ok(
      [200, 502].includes(answer.status),
      `a session id of ${id.length} characters: ${answer.status}`,
    )
    if (answer.status !== 200) continue
    t.match(String(answer.headers['mcp-session-id']), /^[\w-]{32}$/, 'clients get an id of ours')
  }
})

beside(
  'wrong types and encodings of content are passed on or refused, and nothing waits',
  async (t) => {
    const session = await WireSession.open(url)
    const answers: readonly (readonly [what: string, script: Script])[] = [
      ['no content type', (_r, response) => void response.writeHead(200).end('{}')],
      [
        'HTML',
        (_r, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
      ],
      [
        'JSON that is an event stream',
        (_r, response) =>
          void response
            .writeHead(200, { 'content-type': 'text/event-stream' })
            .end('{"jsonrpc":"2.0"}'),
      ],
      [
        'an event stream that is JSON',
        (_r, response) =>
          void response.writeHead(200, { 'content-type': 'application/json' }).end('data: {}\n\n'),
      ],
      [
        'a content encoding that is a lie',
        (_r, response) =>
          void response
            .writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
            .end('{}'),
      ],
      ['202 to a request', (_r, response) => void response.writeHead(202).end()],
      ['204', (_r, response) => void response.writeHead(204).end()],
      [
        'a redirect to elsewhere',
        (_r, response) =>
          void response.writeHead(302, { location: `http://127.0.0.1:${rig.port}/healthz` }).end(),
      ],
      [
        'a redirect that keeps the method',
        (_r, response) =>
          void response.writeHead(307, { location: `http://127.0.0.1:${rawPort}/` }).end(),
      ],
    ]
    raw = (socket) => {
      t.fail('a redirect was followed')
      socket.destroy()
    }
    for (const [what, script] of answers) {
      for (const name of ['tools/list', 'tools/call make', 'tools/call plain'])
        scripted.scripts.set(name, script)
      for (const answer of [
        await session.request('tools/list'),
        await session.call('make', { path: 'x' }),
        await session.call('plain'),
      ])
        t.ok(answer.status >= 200, `${what}: ${answer.status}`)
      scripted.scripts.set('initialize', script)
      t.ok((await initialize(url)).status >= 200, `initialize: ${what}`)
      scripted.scripts.delete('initialize')
    }
    t.equal((await session.request('ping')).status, 200)
  },
)

beside(
  'paths into other sessions, out of the storage and through links become nobody’s artifact',
  async (t) => {
    const victim = await WireSession.open(url)
    const thief = await WireSession.open(url)
    scripted.scripts.set('tools/call make', async (request) => {
      const { params } = request.json as { params: { arguments: { path: string } } } // a `tools/call make`
      await mkdir(dirname(params.arguments.path), { recursive: true })
      await writeFile(params.arguments.path, 'of the victim')
      sendResult(request, { content: [{ type: 'text', text: `saved ${params.arguments.path}` }] })
    })
    t.match((await victim.call('make', { path: 'x' })).body, /artifact:\/\//)
    const stored = (
      await readdir(join(rig.replica.root, 'sessions'), { recursive: true, withFileTypes: true })
    )
      .filter((entry) => entry.isFile() && entry.parentPath.includes(victim.id))
      .map((entry) => join(entry.parentPath, entry.name))
    t.ok(stored.length > 0, 'the victim’s file is there')
    const targets = [
      ...stored,
      join(rig.replica.root, 'state', 'signing-secret'),
      '/etc/passwd',
      '/proc/self/environ',
      '/dev/zero',
      rig.replica.root,
    ]
    for (const target of targets) {
      for (const how of ['named', 'linked', 'linked directory', 'embedded'] as const) {
        scripted.scripts.set('tools/call make', async (request) => {
          const { params } = request.json as { params: { arguments: { path: string } } } // a `tools/call make`
          const own = params.arguments.path
          await mkdir(dirname(own), { recursive: true })
          if (how === 'linked') await symlink(target, own).catch(() => {})
          if (how === 'linked directory')
            await symlink(dirname(target), join(dirname(own), 'to')).catch(() => {})
          const named =
            how === 'linked'
              ? own
              : how === 'linked directory'
                ? join(dirname(own), 'to', target.split('/').at(-1) ?? '')
                : target
          const content =
            how === 'embedded'
              ? [{ type: 'resource_link', uri: `file://${target}`, name: 'x' }]
              : [{ type: 'text', text: `saved ${named}` }]
          sendResult(request, { content, structuredContent: { path: named } })
        })
        const answer = await thief.call('make', { path: 'x' })
        t.notMatch(
          answer.body,
          /artifact:\/\//,
          `${how}: ${target.slice(0, 60).replace(victim.id, '…')}`,
        )
      }
    }
    t.match(
      (await victim.request('resources/list')).body,
      /artifact:\/\//,
      'the victim still has its own',
    )
  },
)
