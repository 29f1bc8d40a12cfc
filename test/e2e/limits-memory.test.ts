/** Memory stays the same whatever passes through: gigabytes up and down, and streams that one end produces faster than the other reads. */
import { createHash } from 'node:crypto'
import { truncate, statfs, writeFile } from 'node:fs/promises'
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { FileRig } from '../support/file-rig.ts'
import { watchMemory } from '../support/process-stats.ts'
import { HOST, mcpPost, pathOf, RawConnection, sized } from '../support/raw-http.ts'

t.setTimeout(600_000)

const GIB = 1_073_741_824
const MAX_GROWTH_MIB = 64
const PIECE = Buffer.alloc(262_144, 'a gigabyte of this ')
const BURST_BYTES = 5_000_000

const produced = { bytes: 0 }
const upstream = createServer((request, response) => {
  void answer(request, response)
})
await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
const address = upstream.address()
const rig = await FileRig.start({
  core: { workers: 2 },
  uploads: { max_file_bytes: '1Gi' },
  server: {
    upstream: {
      url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/mcp`,
    },
    adapters: [
      {
        type: 'artifact_producer',
        tools: ['make_big'],
        output_path_argument: 'filename',
        output_locator: { mode: 'regex' },
      },
      { type: 'upload_consumer', tools: ['read'], file_path_argument: 'path' },
    ],
  },
})
t.teardown(async () => {
  await rig.stop()
  upstream.closeAllConnections()
  upstream.close()
})
const session = await rig.openSession()
const bystander = await rig.openSession()
const inSession = `Mcp-Session-Id: ${session}\r\n`

t.test('a listener that takes no Content-Length of a gigabyte says so at its start', async (t) => {
  const target = pathOf(await rig.uploadUrl(session))
  const request = `PUT ${target} HTTP/1.1\r\n${HOST}Content-Length: ${GIB}\r\n\r\n`
  const connection = new RawConnection(rig.port).send(request).send(PIECE)
  const isWarned = rig.replica.logs().includes('takes no larger Content-Length')
  if (isWarned) await connection.closed()
  else {
    t.notOk(connection.isClosed, 'one that says nothing takes it')
    connection.destroy()
  }
  t.equal(isWarned, rig.replica.logs().includes('"listener":"glibc-2.27"'))
})

t.test(
  'a gigabyte up and down adds less than 64 MiB of memory, and others go on meanwhile',
  async (t) => {
    const { bavail, bsize } = await statfs(tmpdir())
    t.ok(bavail * bsize > 4 * GIB, 'there is room for the test')
    const digest = createHash('sha256')
    for (let sent = 0; sent < GIB; sent += PIECE.byteLength) digest.update(PIECE)
    const sha256 = digest.digest('hex')
    await rig.upload(session, PIECE) // threads and pools that stay are there now
    const measured = async (title: string, work: () => Promise<void>): Promise<void> => {
      const memory = watchMemory(rig.replica.pid)
      const others = keepCalling()
      await work()
      const calls = await others.stop()
      const grownMib = memory.stop()
      t.ok(grownMib < MAX_GROWTH_MIB, `${title}: memory grew by ${grownMib.toFixed(0)} MiB`)
      t.ok(calls > 20, `${title}: ${calls} calls of another session were answered meanwhile`)
    }
    const chunks = 'Transfer-Encoding: chunked\r\n'
    await measured('PUT', async () => {
      const target = pathOf(await rig.uploadUrl(session))
      const head = `PUT ${target} HTTP/1.1\r\n${HOST}${chunks}\r\n`
      t.match(await pourUpload(head, '0\r\n\r\n'), { upload: { sha256, size_bytes: GIB } })
    })
    await measured('POST of a form', async () => {
      const target = pathOf(await rig.uploadUrl(session))
      const type = 'Content-Type: multipart/form-data; boundary=B\r\n'
      const part = '--B\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
      const head = `POST ${target} HTTP/1.1\r\n${HOST}${type}${chunks}\r\n${chunkOf(part)}`
      const uploaded = await pourUpload(head, `${chunkOf('\r\n--B--\r\n')}0\r\n\r\n`)
      t.match(uploaded, { upload: { sha256, size_bytes: GIB } })
    })
    let download = ''
    await measured('an artifact', async () => {
      const made = await rig.call(session, 'make_big', { filename: 'big.bin' })
      download = /"download_url":"([^"]+)"/.exec(made.text)?.[1] ?? ''
      t.match(made.text, `"size_bytes":${GIB}`)
    })
    await measured('GET', async () => {
      const received = await new Promise<IncomingMessage>((resolve) => get(download, resolve))
      const hash = createHash('sha256')
      let size = 0
      for await (const chunk of received) {
        // Without an encoding a stream of HTTP gives buffers.
        const bytes = chunk as Buffer
        size += bytes.byteLength
        hash.update(bytes)
      }
      t.equal(size, GIB)
      t.equal(`"${hash.digest('hex')}"`, received.headers.etag, 'the ETag is its digest')
    })
  },
)

t.test(
  'a stream that is produced faster than its client reads is held back at the upstream',
  async (t) => {
    for (const [title, readPerTick, enough] of [
      ['a client that reads nothing', 0, 0],
      ['a client that reads slowly', 131_072, 15_000_000],
    ] as const) {
      const producedBefore = produced.bytes
      const connection = callStream('flood')
      await eventually('the stream flows', () => connection.text.length > 0)
      const memory = watchMemory(rig.replica.pid)
      const reader = connection.readSlowly(readPerTick)
      const ahead = (): number => produced.bytes - producedBefore - reader.readBytes
      let lastProduced = -1
      await eventually('the upstream is held back, or the client has read its part', async () => {
        const isStill = lastProduced === produced.bytes
        lastProduced = produced.bytes
        for (let i = 0; i < 20; i++) await rig.serves(bystander)
        return enough === 0 ? isStill : reader.readBytes > enough
      })
      const grownMib = memory.stop()
      t.ok(ahead() < 32_000_000, `${title}: the upstream is ${ahead()} bytes ahead`)
      t.ok(grownMib < MAX_GROWTH_MIB, `${title}: memory grew by ${grownMib.toFixed(0)} MiB`)
      reader.stop()
      connection.destroy()
      await eventually('the upstream hears that the client left', () => floods.size === 0)
    }
  },
)

t.test('a client that paused gets the whole of an event, though nothing follows it', async (t) => {
  for (const tool of ['burst', 'burst_raw']) {
    const connection = callStream(tool)
    connection.socket.pause()
    await eventually('the upstream has sent it', () => bursts.size === 1)
    for (let i = 0; i < 20; i++) await rig.serves(bystander) // the adapter has it by now
    connection.socket.resume()
    await eventually(
      `all of it arrives (${tool})`,
      () => connection.text.length > BURST_BYTES,
      5_000,
    )
    for (const response of bursts) response.end('data: {}\n\n')
    bursts.clear()
    const { body } = await connection.response()
    t.ok(body.includes(`${'x'.repeat(100)}"}`), 'it is complete')
    t.ok(body.endsWith('data: {}\n\n'), 'and what follows later comes too')
    connection.destroy()
  }
})

const floods = new Set<ServerResponse>()
const bursts = new Set<ServerResponse>()

/** An upstream that speaks just enough of MCP. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  if (request.method !== 'POST') {
    response.writeHead(405).end()
    return
  }
  // What the adapter sends is JSON-RPC.
  const message = JSON.parse(text) as Message
  const { id, method, params } = message
  if (id === undefined) response.writeHead(202).end()
  else if (method === 'initialize') {
    sendResult(response, id, {
      protocolVersion: '2025-06-18',
      capabilities: { tools: {} },
      serverInfo: { name: 'streams', version: '1' },
    })
  } else if (method === 'tools/call') await callTool(response, id, params ?? {})
  else sendResult(response, id, {})
}

interface Message {
  readonly id?: number
  readonly method: string
  readonly params?: { readonly name?: string; readonly arguments?: { readonly filename?: string } }
}

async function callTool(
  response: ServerResponse,
  id: number,
  { name, arguments: args = {} }: NonNullable<Message['params']>,
): Promise<void> {
  switch (name ?? '') {
    case 'make_big': {
      const file = args.filename ?? ''
      await writeFile(file, '')
      await truncate(file, GIB)
      sendText(response, id, `Saved to ${file}`)
      return
    }
    case 'flood':
      flood(response)
      return
    case 'burst':
    case 'burst_raw':
      response.writeHead(200, {
        'content-type': name === 'burst' ? 'text/event-stream' : 'application/octet-stream',
      })
      response.write(`data: {"blob":"${'x'.repeat(BURST_BYTES)}"}\n\n`, () => bursts.add(response))
      return
    default:
      sendText(response, id, JSON.stringify(args))
  }
}

/** Events without end, as fast as they are taken. */
function flood(response: ServerResponse): void {
  floods.add(response)
  response.once('close', () => floods.delete(response))
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const event = `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"${'x'.repeat(1_000)}"}}\n\n`
  const pump = (): void => {
    while (!response.destroyed) {
      produced.bytes += event.length
      if (response.write(event)) continue
      response.once('drain', () => setImmediate(pump))
      return
    }
  }
  pump()
}

function sendText(response: ServerResponse, id: number, text: string): void {
  sendResult(response, id, { content: [{ type: 'text', text }] })
}

function sendResult(response: ServerResponse, id: number, result: object): void {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ jsonrpc: '2.0', id, result }))
}

function callStream(tool: string): RawConnection {
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: tool },
  })
  return new RawConnection(rig.port).send(mcpPost(`${inSession}${sized(body)}`, body))
}

function chunkOf(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`
}

/** Sends a gigabyte in chunks; answers the JSON that comes back. */
async function pourUpload(head: string, tail: string): Promise<unknown> {
  const chunk = Buffer.concat([
    Buffer.from(`${PIECE.byteLength.toString(16)}\r\n`),
    PIECE,
    Buffer.from('\r\n'),
  ])
  const connection = new RawConnection(rig.port).send(head)
  let pieces = GIB / PIECE.byteLength
  await connection.pour(chunk, () => pieces-- === 0)
  const { body } = await connection.send(tail).response(30_000)
  connection.destroy()
  return JSON.parse(body)
}

/** Calls a tool in another session again and again. */
function keepCalling(): { stop(): Promise<number> } {
  const state = { isOver: false, calls: 0 }
  const running = (async () => {
    while (!state.isOver) {
      if (!(await within('a call', rig.serves(bystander)))) throw new Error('it was not answered')
      state.calls++
    }
  })()
  return {
    stop: async () => {
      state.isOver = true
      await running
      return state.calls
    },
  }
}
