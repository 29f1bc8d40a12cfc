/**
 * Load at a steady rate over raw sockets. autocannon sends a second's requests in one burst at its start, which measures queueing in place of latency,
 * and its clock has whole milliseconds.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

import { quantile } from './statistics.ts'
import type { Outcome, Traffic } from './traffic.ts'

/** How long answers may still come after the last request, in milliseconds. */
const DRAIN_MS = 5_000

/** Posts `perSecond` requests for `traffic.seconds` (null: as fast as answers come) and times each from sending to the last byte. */
export async function pace(traffic: Traffic, perSecond: number | null): Promise<Outcome> {
  const run = new PacedRun(traffic)
  await run.connect()
  const startedAt = performance.now()
  if (perSecond === null) run.keepBusy()
  else await run.sendAt(perSecond)
  await run.finish(startedAt + traffic.seconds * 1_000)
  return run.outcome((performance.now() - startedAt) / 1_000)
}

class PacedRun {
  readonly #traffic: Traffic
  readonly #messages: readonly Buffer[]
  readonly #idle: Connection[] = []
  #all: Connection[] = []
  readonly #latencies: number[] = []
  #next = 0
  #queued = 0
  #busy = 0
  #failures = 0
  #bytes = 0
  #isClosedLoop = false
  #isOver = false

  constructor(traffic: Traffic) {
    this.#traffic = traffic
    this.#messages = httpMessages(traffic)
  }

  async connect(): Promise<void> {
    const { hostname, port } = new URL(this.#traffic.url)
    this.#all = await Promise.all(
      Array.from({ length: this.#traffic.connections }, () =>
        Connection.open(hostname, Number(port)),
      ),
    )
    this.#idle.push(...this.#all)
  }

  keepBusy(): void {
    this.#isClosedLoop = true
    this.#queued = this.#idle.length
    this.#sendQueued()
  }

  /** Resolves when the last request was sent. */
  async sendAt(perSecond: number): Promise<void> {
    const startedAt = performance.now()
    const total = Math.round(perSecond * this.#traffic.seconds)
    let due = 0
    while (due < total) {
      // oxlint-disable-next-line no-await-in-loop -- the clock of the run
      await new Promise((resolve) => setTimeout(resolve, 1))
      const nowDue = Math.min(
        total,
        Math.floor(((performance.now() - startedAt) / 1_000) * perSecond),
      )
      this.#queued += nowDue - due
      due = nowDue
      this.#sendQueued()
    }
  }

  async finish(atMs: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, atMs - performance.now())))
    this.#isOver = this.#isClosedLoop
    const deadline = performance.now() + DRAIN_MS
    while (
      this.#busy + (this.#isClosedLoop ? 0 : this.#queued) > 0 &&
      performance.now() < deadline
    ) {
      // oxlint-disable-next-line no-await-in-loop -- waits for the last answers
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    this.#isOver = true
    this.#failures += this.#busy
    for (const connection of this.#all) connection.close()
  }

  outcome(seconds: number): Outcome {
    return {
      requests: this.#latencies.length,
      failures: this.#failures,
      seconds,
      bytes: this.#bytes,
      p50Ms: quantile(this.#latencies, 0.5),
      p99Ms: quantile(this.#latencies, 0.99),
    }
  }

  #sendQueued(): void {
    while (this.#queued > 0 && !this.#isOver) {
      const connection = this.#idle.pop()
      if (connection === undefined) return
      this.#queued--
      this.#send(connection)
    }
  }

  #send(connection: Connection): void {
    const message = this.#messages[this.#next++ % this.#messages.length] ?? Buffer.alloc(0)
    const sentAt = performance.now()
    this.#busy++
    connection.exchange(message, (status, bytes) => {
      this.#busy--
      this.#bytes += bytes
      if (status >= 200 && status < 300) this.#latencies.push(performance.now() - sentAt)
      else this.#failures++
      if (status === 0) return
      this.#idle.push(connection)
      if (this.#isClosedLoop) this.#queued++
      this.#sendQueued()
    })
  }
}

/** A keep-alive connection with one request on it at a time. */
class Connection {
  readonly #socket: Socket
  #received: Buffer = Buffer.alloc(0)
  #answered: ((status: number, bytes: number) => void) | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk) => this.#take(chunk))
    socket.on('error', () => {})
    // Status 0: no answer.
    socket.on('close', () => this.#answer(0))
  }

  static open(host: string, port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => resolve(new Connection(socket)))
    })
  }

  exchange(message: Buffer, answered: (status: number, bytes: number) => void): void {
    this.#answered = answered
    this.#socket.write(message)
  }

  close(): void {
    this.#socket.destroy()
  }

  #take(chunk: Buffer): void {
    this.#received =
      this.#received.byteLength === 0 ? chunk : Buffer.concat([this.#received, chunk])
    if (isComplete(this.#received)) this.#answer(Number(this.#received.toString('latin1', 9, 12)))
  }

  #answer(status: number): void {
    const answered = this.#answered
    const bytes = this.#received.byteLength
    this.#answered = undefined
    this.#received = Buffer.alloc(0)
    answered?.(status, bytes)
  }
}

/** Whether a whole HTTP/1.1 response is there: by its length, or by its last chunk. */
function isComplete(received: Buffer): boolean {
  const end = received.indexOf('\r\n\r\n')
  if (end === -1) return false
  const head = received.toString('latin1', 0, end)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined) return received.byteLength >= end + 4 + Number(length)
  if (!/\r\ntransfer-encoding: *chunked/i.test(head)) return true
  return (
    received.subarray(Math.max(end + 4, received.byteLength - 5)).toString('latin1') === '0\r\n\r\n'
  )
}

function httpMessages(traffic: Traffic): Buffer[] {
  const { url, headers, sessionIds, bodies } = traffic
  const { pathname, search, host } = new URL(url)
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return Array.from({ length: Math.max(1, sessionIds.length, bodies.length) }, (_, index) => {
    const sessionId = sessionIds[index % sessionIds.length]
    const session = sessionId === undefined ? '' : `mcp-session-id: ${sessionId}\r\n`
    const body = bodies[index % bodies.length] ?? ''
    return Buffer.from(
      `POST ${pathname}${search} HTTP/1.1\r\nhost: ${host}\r\n${lines.join('')}${session}` +
        `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  })
}
