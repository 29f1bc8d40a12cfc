/** Files sent over real connections of the listener's library, to clients that read at different paces. */
/* oxlint-disable no-await-in-loop -- tests do one thing after another */
import { randomFillSync } from 'node:crypto'
import { fstatSync, openSync } from 'node:fs'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { FileSender } from '../../src/primary/listener/file-sender.ts'
import { EXCLUSIVE_PORT, loadNative } from '../../src/primary/listener/native.ts'
import type { HttpResponse, us_listen_socket } from '../../src/primary/listener/native.ts'
import { eventually } from '../support/eventually.ts'

const MIB = 1_048_576
/** More than a connection holds that nobody reads from. */
const FILE_BYTES = 48 * MIB
const content = randomFillSync(Buffer.allocUnsafe(FILE_BYTES))

interface Sending {
  readonly fd: number
  /** Bytes of the body that the connection took so far. */
  takenBytes(): number
  /** Whether all was sent; undefined as long as neither is known. */
  isComplete: boolean | undefined
}

const { uws } = loadNative()
const directory = await mkdtemp(join(tmpdir(), 'sender-'))
const path = join(directory, 'file')
await writeFile(path, content)
const sendings: Sending[] = []
let listening: us_listen_socket | undefined
const port = await new Promise<number>((resolve, reject) => {
  const app = uws.App()
  app.get('/:start/:length', (res, req) =>
    send(res, { start: Number(req.getParameter(0)), length: Number(req.getParameter(1)) }),
  )
  app.listen('127.0.0.1', 0, EXCLUSIVE_PORT, (socket) => {
    if (socket === false) return reject(new Error('can not listen'))
    listening = socket
    resolve(uws.us_socket_local_port(socket))
  })
})
t.teardown(async () => {
  if (listening !== undefined) uws.us_listen_socket_close(listening)
  await rm(directory, { recursive: true, force: true })
})

function send(res: HttpResponse, range: { start: number; length: number }): void {
  const fd = openSync(path, 'r')
  let last = 0
  const sending: Sending = {
    fd,
    // The library's object must not be asked once the response is over.
    takenBytes: () => (sending.isComplete === undefined ? (last = res.getWriteOffset()) : last),
    isComplete: undefined,
  }
  sendings.push(sending)
  const sender = new FileSender(res, { fd, ...range }, (isComplete) => {
    sending.isComplete = isComplete
  })
  res.onAborted(() => sender.abort())
  sender.start()
}

function ask(start: number, length: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: `/${start}/${length}`, agent: false }, resolve).on(
      'error',
      reject,
    )
  })
}

/** Reads so many bytes, fewer where the answer ends, and no more until the next call. */
async function take(answer: IncomingMessage, bytes: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let count = 0
  while (count < bytes) {
    // Without an encoding a stream of HTTP gives buffers.
    const part = answer.read() as Buffer | null
    if (part !== null) {
      parts.push(part)
      count += part.byteLength
    } else if (answer.readableEnded) break
    else await more(answer)
  }
  return Buffer.concat(parts)
}

/** Rejects when the answer ends too early. */
function more(answer: IncomingMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error): void => {
      for (const name of ['readable', 'end', 'error']) answer.off(name, done)
      if (error instanceof Error) reject(error)
      else resolve()
    }
    for (const name of ['readable', 'end', 'error']) answer.once(name, done)
  })
}

async function untilFull(sending: Sending): Promise<void> {
  let before = -1
  await eventually('the connection takes no more, or all is sent', () => {
    const isStill = before === sending.takenBytes()
    before = sending.takenBytes()
    return isStill
  })
}

function isOpen(fd: number): boolean {
  try {
    return fstatSync(fd).isFile()
  } catch {
    return false
  }
}

t.test('a client that stops again and again gets every byte once', async (t) => {
  const start = 12_345
  const length = FILE_BYTES - 2 * start
  const answer = await ask(start, length)
  const [sending] = sendings.splice(0)
  if (sending === undefined) throw new Error('nothing is sent')
  const parts: Buffer[] = []
  // Odd sizes: where the connection is full has nothing to do with where pieces begin.
  for (let size = 100_003; !answer.readableEnded; size = (size * 7) % 6_000_011) {
    await untilFull(sending)
    parts.push(await take(answer, size))
  }
  t.ok(parts.length > 10, 'it stopped often')
  t.ok(Buffer.concat(parts).equals(content.subarray(start, start + length)), 'the bytes are right')
  t.equal(sending.isComplete, true)
  await eventually('the descriptor is closed', () => !isOpen(sending.fd))
})

t.test('clients that read as fast as they can do not get bytes of each other', async (t) => {
  const length = 16 * MIB
  const starts = Array.from({ length: 12 }, (_, index) => index * 2 * MIB + index)
  const bodies = await Promise.all(
    starts.map(async (start) => take(await ask(start, length), length)),
  )
  for (const [index, body] of bodies.entries()) {
    const start = starts[index] ?? 0
    t.ok(body.equals(content.subarray(start, start + length)), `from ${start}`)
  }
  await eventually('all descriptors are closed', () => sendings.every(({ fd }) => !isOpen(fd)))
  t.ok(sendings.splice(0).every(({ isComplete }) => isComplete === true))
})

t.test('a client that leaves has the descriptor closed', async (t) => {
  for (const read of [0, 5 * MIB]) {
    const answer = await ask(0, FILE_BYTES)
    const [sending] = sendings.splice(0)
    if (sending === undefined) throw new Error('nothing is sent')
    await take(answer, read)
    answer.destroy()
    await eventually('it is over', () => sending.isComplete !== undefined)
    t.equal(sending.isComplete, false)
    await eventually('the descriptor is closed', () => !isOpen(sending.fd))
  }
})

t.test('a file that became shorter ends in a cut connection', async (t) => {
  const shorter = 20 * MIB
  const answer = await ask(0, FILE_BYTES)
  const [sending] = sendings.splice(0)
  if (sending === undefined) throw new Error('nothing is sent')
  await untilFull(sending)
  await truncate(path, shorter)
  await t.rejects(take(answer, FILE_BYTES))
  t.notOk(answer.complete, 'the client can tell')
  t.equal(sending.isComplete, false)
  await eventually('the descriptor is closed', () => !isOpen(sending.fd))
})
