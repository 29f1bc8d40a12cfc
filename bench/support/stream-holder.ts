/** Holds many GET streams open with as little of its own as possible: one raw socket each. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

import type { Order, Outcome } from './traffic.ts'

/** How many streams are opened at a time. */
const WIDTH = 64
const OPEN_WITHIN_MS = 15_000

/** See the file comment. */
export class StreamHolder {
  #sockets: Socket[] = []

  /** Opens a stream for each session; answers how many are open, that is, have sent a head with status 200 and a first byte. */
  async hold(traffic: Extract<Order, { kind: 'hold' }>['traffic']): Promise<Outcome> {
    const startedAt = performance.now()
    const waiting = [...traffic.sessionIds]
    let failures = 0
    const lane = async (): Promise<void> => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        // oxlint-disable-next-line no-await-in-loop -- one stream a lane
        const socket = await open(traffic.url, traffic.headers, id)
        if (socket === undefined) failures++
        else this.#sockets.push(socket)
      }
    }
    await Promise.all(Array.from({ length: WIDTH }, lane))
    return outcome(this.#sockets.length, failures, (performance.now() - startedAt) / 1_000)
  }

  /** Closes all; answers how many were still open. */
  release(): Outcome {
    const alive = this.#sockets.filter((socket) => !socket.destroyed)
    const lost = this.#sockets.length - alive.length
    for (const socket of alive) socket.destroy()
    this.#sockets = []
    return outcome(alive.length, lost, 0)
  }
}

function open(
  url: string,
  headers: Readonly<Record<string, string>>,
  sessionId: string,
): Promise<Socket | undefined> {
  const { hostname, port, host, pathname, search } = new URL(url)
  const lines = Object.entries({
    ...headers,
    accept: 'text/event-stream',
    'mcp-session-id': sessionId,
  })
  const socket = connect({ host: hostname, port: Number(port), noDelay: true })
  socket.write(
    `GET ${pathname}${search} HTTP/1.1\r\nhost: ${host}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  )
  return new Promise((resolve) => {
    const fail = (): void => {
      socket.destroy()
      resolve(undefined)
    }
    const limit = setTimeout(fail, OPEN_WITHIN_MS)
    socket.once('error', fail)
    socket.once('close', fail)
    socket.once('data', (chunk) => {
      clearTimeout(limit)
      if (!chunk.toString('latin1', 0, 12).endsWith(' 200')) {
        fail()
        return
      }
      socket.on('data', () => {})
      resolve(socket)
    })
  })
}

function outcome(requests: number, failures: number, seconds: number): Outcome {
  return { requests, failures, seconds, bytes: 0, p50Ms: NaN, p99Ms: NaN }
}
