// How failures look through the relay — the upstream's, the client's and slowness on either side — and that nothing is left behind by them.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import {
  beginStream,
  event,
  idOf,
  sendResult,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import type { Script } from '../support/upstreams/scripted-upstream.ts'
import { answerIn, initialize, messagesIn, open, send, WireSession } from '../support/wire.ts'
import type { WireStream } from '../support/wire.ts'

// Time-outs are waited for, and a great deal of bytes.
t.setTimeout(600_000)

const MIB = 1024 * 1024

/** Speaks no HTTP. */
const babbler = createServer((socket) => {
  socket.on('error', () => {})
  socket.once('data', () => socket.end('hello, this is not HTTP\r\n\r\n'))
})
await new Promise<void>((resolve) => babbler.listen(0, '127.0.0.1', resolve))
const address = babbler.address()
const babblerPort = typeof address === 'object' && address !== null ? address.port : 0

const upstream = await startScriptedUpstream()
const gone = await startScriptedUpstream()
const replica = await startReplica({
  config: {
    // Each of many failures in a row is looked at.
    core: { workers: 1, upstream_ping: { enabled: false } },
    servers: [
      { id: 'raw', mount_path: '/mcp/raw', upstream: { url: upstream.url } },
      {
        id: 'quick',
        mount_path: '/mcp/quick',
        upstream: { url: upstream.url },
        tool_defaults: { tool_call_timeout_seconds: 1 },
      },
      { id: 'gone', mount_path: '/mcp/gone', upstream: { url: gone.url } },
      {
        id: 'babbler',
        mount_path: '/mcp/babbler',
        upstream: { url: `http://127.0.0.1:${babblerPort}/mcp` },
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  babbler.close()
})

const raw = await WireSession.open(`${replica.url}/mcp/raw`)
const quick = await WireSession.open(`${replica.url}/mcp/quick`)

let scripts = 0
/** Makes a tool of the upstream; answers its name. */
function tool(script: Script): string {
  const name = `tool-${++scripts}`
  upstream.scripts.set(`tools/call ${name}`, script)
  return name
}

function callOf(session: WireSession, name: string) {
  return session.message('tools/call', { name, arguments: {} })
}

/** Waits until the response takes more, or never will. */
function writable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}

/** Says something again and again, until nobody listens. */
function again(response: ServerResponse, bytes: string): void {
  const timer = setInterval(() => response.write(bytes), 100)
  response.on('close', () => clearInterval(timer))
}

async function rssBytes(): Promise<number> {
  const status = await readFile(`/proc/${replica.pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}

t.test(
  'an upstream that can not be reached or speaks no HTTP is a 502 with the request’s id',
  async (t) => {
    await gone.stop()
    for (const name of ['gone', 'babbler']) {
      const answer = await initialize(`${replica.url}/mcp/${name}`)
      t.equal(answer.status, 502, name)
      t.match(answer.json(), {
        jsonrpc: '2.0',
        id: 'init',
        error: { code: 1502, message: /upstream/, data: { retryable: name === 'gone' } },
      })
    }
  },
)

t.test('an upstream’s own HTTP errors are relayed with their bodies', async (t) => {
  for (const status of [400, 403, 429, 500, 503]) {
    const name = tool((_request, response) => {
      response
        .writeHead(status, { 'content-type': 'text/plain', 'retry-after': '3' })
        .end(`no: ${status}`)
    })
    const answer = await raw.call(name)
    t.equal(answer.status, status)
    t.equal(answer.body, `no: ${status}`)
    t.equal(answer.headers['retry-after'], '3')
  }
})

t.test('an answer that breaks off is seen as such', async (t) => {
  const json = tool((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.write('{"jsonrpc":"2.0",', () => response.destroy())
  })
  const half = await raw.stream(callOf(raw, json))
  t.equal(await half.ended, 'cut', 'half a JSON answer does not end properly')

  for (const partial of ['', 'data: {"jsonrpc":"2.0","met', 'event: message\r']) {
    const name = tool((_request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }) + partial, () =>
        response.destroy(),
      )
    })
    const message = callOf(raw, name)
    const stream = await raw.stream(message)
    t.equal(await stream.ended, 'end')
    const last = stream
      .text()
      .split('\n\n')
      .findLast((block) => block !== '')
    t.match(messagesIn(`${last}\n\n`)[0], { id: message.id, error: { code: 1502 } }, partial)
  }

  const resumable = tool((_request, response) => {
    beginStream(response)
    response.write('id: 1\ndata: \n\n', () => response.destroy())
  })
  const stream = await raw.stream(callOf(raw, resumable))
  t.equal(await stream.ended, 'cut', 'a client that can resume gets to see the cut')
  t.notMatch(stream.text(), 'error')
})

t.test(
  'a tool that says nothing for too long is cancelled upstream and answered with an error',
  async (t) => {
    const cancelled = (id: unknown): Promise<void> =>
      eventually('the upstream is told', () =>
        upstream.requests('notifications/cancelled').some((request) => {
          const { params } = request.json as { params: { requestId: unknown } } // requests() chose it by its method
          return params.requestId === id
        }),
      )
    const silent = tool(() => {})
    const stalls = tool(async (_request, response) => {
      beginStream(response)
      for (let n = 0; n < 10; n++) {
        response.write(event({ jsonrpc: '2.0', method: 'notifications/progress', params: { n } }))
        await delay(120)
      }
      // and then nothing
    })
    const asks = tool(async (request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', id: 1, method: 'elicitation/create', params: {} }))
      await delay(1_500)
      response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { waited: true } }))
    })
    const [first, second] = [callOf(quick, silent), callOf(quick, stalls)]
    const [answer, stream, asked] = await Promise.all([
      quick.post(first),
      quick.stream(second),
      quick.call(asks),
    ])
    t.equal(answer.status, 504)
    t.match(answer.json(), { id: first.id, error: { code: 1504, message: /1 s/ } })
    await cancelled(first.id)
    await eventually(
      'and its connection is closed',
      () => upstream.requests(`tools/call ${silent}`)[0]?.isCut === true,
    )
    t.equal(await stream.ended, 'end')
    t.match(messagesIn(stream.text()).at(-1), { id: second.id, error: { code: 1504 } })
    t.match(stream.text(), '{"n":9}', 'progress had kept it going')
    await cancelled(second.id)
    t.match(answerIn(asked), { result: { waited: true } }, 'a person may take longer')
  },
)

t.test(
  'what only shows that a connection lives does not hold off a time limit, at any stage',
  async (t) => {
    const pings = tool((_request, response) => {
      beginStream(response)
      again(response, ': ping\n\n')
    })
    const drips = tool((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders()
      again(response, ' ')
    })
    const dripsData = tool((_request, response) => {
      beginStream(response)
      response.write('data: ')
      again(response, 'x')
    })
    const slowHead = tool((_request, response) => {
      const { socket } = response
      const timer = setInterval(() => socket?.write('H'), 100)
      response.on('close', () => clearInterval(timer))
    })
    upstream.scripts.set('prompts/list', () => {})
    const waits = tool(async (request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', id: 1, method: 'elicitation/create', params: {} }))
      again(response, ': ping\n\n')
      await delay(1_500)
      response.end(event({ jsonrpc: '2.0', id: idOf(request), result: { waited: true } }))
    })
    const large = tool(async (request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      for (let n = 0; n < 12; n++) {
        response.write(' '.repeat(16_384))
        await delay(120)
      }
      response.end(JSON.stringify({ jsonrpc: '2.0', id: idOf(request), result: { large: true } }))
    })
    const messages = [callOf(quick, pings), callOf(quick, dripsData)] as const
    const [pinged, dripped, cut, bad, list, waited, sent] = await Promise.all([
      quick.stream(messages[0]),
      quick.stream(messages[1]),
      quick.stream(callOf(quick, drips)),
      quick.call(slowHead),
      quick.request('prompts/list'),
      quick.call(waits),
      quick.call(large),
    ])
    for (const [index, stream] of [pinged, dripped].entries()) {
      t.equal(await within('the end', stream.ended), 'end')
      t.match(messagesIn(stream.text().slice(stream.text().lastIndexOf('event: message'))), [
        { id: messages[index]?.id, error: { code: 1504 } },
      ])
    }
    t.equal(await within('the end', cut.ended), 'cut')
    t.ok([502, 504].includes(bad.status), 'half a head is no head')
    t.match(list, { status: 504 })
    t.match(list.json().error, { code: 1504 })
    t.match(answerIn(waited), { result: { waited: true } }, 'a person may take longer')
    t.match(answerIn(sent), { result: { large: true } }, 'and so may much')
    upstream.scripts.delete('prompts/list')
    for (const name of [pings, drips, dripsData, slowHead]) {
      await eventually(
        'its connection is closed',
        () => upstream.requests(`tools/call ${name}`)[0]?.isCut === true,
      )
    }
  },
)

t.test(
  'a client that goes away closes the upstream’s connection, without a cancel of our own',
  async (t) => {
    const before = upstream.requests('notifications/cancelled').length
    const started: (() => void)[] = []
    const silent = tool((_request, response) => {
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', method: 'notifications/progress' }))
      started.shift()?.()
    })
    const stream = await raw.stream(callOf(raw, silent))
    await stream.until('progress')
    stream.close()
    await eventually(
      'the connection is closed',
      () => upstream.requests(`tools/call ${silent}`)[0]?.isCut === true,
    )
    t.equal(upstream.requests('notifications/cancelled').length, before)
    const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 5 } }
    t.equal((await raw.post(cancel)).status, 202)
    t.same(
      upstream.requests('notifications/cancelled').at(-1)?.json,
      cancel,
      'the client’s own is relayed',
    )
  },
)

t.test('a slow reader of a large stream costs no memory and holds up nobody else', async (t) => {
  const total = 200 * MIB
  const chunk = Buffer.alloc(64 * 1024, `data: ${'x'.repeat(120)}\n`)
  let sent = 0
  const flood = tool(async (_request, response) => {
    beginStream(response)
    while (sent < total && !response.destroyed) {
      sent += chunk.length
      if (!response.write(chunk)) await writable(response)
    }
    response.end()
  })
  const other = await WireSession.open(`${replica.url}/mcp/raw`)
  const pong = tool((request) => sendResult(request, {}))
  await other.call(pong)
  const before = await rssBytes()
  const received = createHash('sha256')
  let size = 0
  const body = JSON.stringify(callOf(raw, flood))
  let breatherAt = 4 * MIB
  let slow: WireStream | undefined
  const stream = await open(raw.url, {
    headers: raw.headers,
    body,
    sink: (part) => {
      // A comment may come first, as the head is sent before there is anything to send.
      const isComment = size === 0 && part.subarray(0, 3).toString() === ':\n\n'
      const events = isComment ? part.subarray(3) : part
      received.update(events)
      size += events.length
      // Slower than the upstream: a breather now and then.
      if (size < breatherAt) return
      breatherAt += 4 * MIB
      slow?.pause()
      setTimeout(() => slow?.resume(), 10)
    },
  })
  stream.pause()
  let last = -1
  await eventually('the upstream is held', async () => {
    const isHeld = sent === last
    last = sent
    await delay(150)
    return isHeld && sent > 0
  })
  t.ok(sent < 64 * MIB, `${sent / MIB} MiB were taken in`)
  const startedAt = Date.now()
  for (let n = 0; n < 50; n++) await other.call(pong)
  t.ok(Date.now() - startedAt < 5_000, 'other calls go on')
  const held = (await rssBytes()) - before
  t.ok(held < 32 * MIB, `memory grew by ${Math.round(held / MIB)} MiB while it was held`)
  let peak = held
  slow = stream
  stream.resume()
  const watch = setInterval(() => {
    void rssBytes().then((now) => {
      peak = Math.max(peak, now - before)
    })
  }, 50)
  await within('the rest', stream.ended, 30_000)
  clearInterval(watch)
  const expected = createHash('sha256')
  for (let at = 0; at < sent; at += chunk.length) expected.update(chunk)
  t.equal(size, sent, 'every byte arrived')
  t.equal(received.digest('hex'), expected.digest('hex'), 'in its place')
  t.ok(peak < 128 * MIB, `memory grew by ${Math.round(peak / MIB)} MiB`)
})

t.test('nothing is left of thousands of calls, finished, failed or given up', async (t) => {
  const fine = tool((request) => sendResult(request, { text: 'x'.repeat(1_000) }))
  const streams = tool((request, response) => {
    beginStream(response)
    response.end(event({ jsonrpc: '2.0', id: idOf(request), result: {} }))
  })
  const fails = tool((_request, response) => void response.destroy())
  const hangs = tool((_request, response) => {
    beginStream(response)
    response.write(': on\n\n')
  })
  const giveUp = async (): Promise<void> => {
    const stream = await raw.stream(callOf(raw, hangs))
    stream.close()
  }
  const round = async (): Promise<void> => {
    const work: Promise<unknown>[] = []
    for (let n = 0; n < 10; n++) {
      work.push(
        raw.call(fine),
        raw.call(streams),
        raw.call(fails),
        giveUp(),
        open(raw.url, { headers: raw.headers, body: '{' }),
      )
    }
    await Promise.all(work)
  }
  for (let n = 0; n < 8; n++) await round()
  const settled = await rssBytes()
  for (let n = 0; n < 32; n++) await round()
  await eventually('upstream connections are idle or gone', async () => {
    const open = upstream.requests(`tools/call ${hangs}`).filter((request) => !request.isCut)
    return open.length === 0 && (await upstream.connections()) < 80
  })
  const grown = (await rssBytes()) - settled
  t.ok(grown < 32 * MIB, `memory grew by ${Math.round(grown / MIB)} MiB`)
  const health = await send(`${replica.url}/healthz`, { method: 'GET' })
  t.equal(health.status, 200)
})
