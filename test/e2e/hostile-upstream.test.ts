/** An upstream whose bytes mean harm, on the same worker as a well-behaved one, whose client notices nothing. */
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { HostileRig } from '../support/hostile-rig.ts'
import {
  beginStream,
  event,
  idOf,
  type ReceivedRequest,
  type Script,
} from '../support/upstreams/scripted-upstream.ts'
import { initialize, open, POST_HEADERS, WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const hostile = await HostileRig.start(t)
const { scripted, url } = hostile

/** Answers a request with JSON text as it is. */
const text =
  (body: (id: string) => string): Script =>
  (request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(body(JSON.stringify(idOf(request))))
  }

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)

hostile.beside(
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

hostile.beside(
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
      hostile.raw = (socket) => {
        if (closes) socket.end(answer)
        else socket.write(answer)
      }
      const got = await open(hostile.rawUrl, {
        headers: POST_HEADERS,
        body: '{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}',
      })
      await within(`an end: ${what}`, got.ended)
      t.notMatch(got.text(), /evil/, what)
      hostile.raw = (socket) =>
        socket.end(`${head}Content-Length: ${result.length}\r\n\r\n${result}`)
      const next = await initialize(hostile.rawUrl)
      t.equal(next.status, 200, `the next is answered for itself, after: ${what}`)
      t.notMatch(next.body, /evil/)
    }
  },
)

hostile.beside(
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
      hostile.raw = (socket) => {
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
      const answer = await initialize(hostile.rawUrl)
      t.equal(answer.status, 502, what)
      t.ok(sentBytes < 64 * 1024 ** 2, `${what}: cut after ${sentBytes} bytes`)
    }
  },
)

hostile.beside(
  'an answer that only drips is ended by its time limit or its client, and holds nothing up',
  async (t) => {
    hostile.raw = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n')
      const timer = setInterval(() => socket.write('X'), 50)
      socket.on('close', () => clearInterval(timer))
    }
    const controller = new AbortController()
    const dripped = open(hostile.rawUrl, {
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
    await eventually('its connection is closed', () => hostile.sockets.size === 0)
  },
)

hostile.beside(
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
      hostile.behave()
    }
  },
)
