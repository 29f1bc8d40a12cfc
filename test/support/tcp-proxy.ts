/** A loopback TCP proxy that can fail in the ways that a network does. */
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'

import type { Test } from 'tap'

/** See the file comment. */
export interface TcpProxy {
  readonly port: number
  /** Connections that are open. */
  readonly connections: number
  /** Resets what is open and refuses what is new. */
  cut(): void
  /** Keeps what is open and accepts what is new, but passes nothing on: a partition, a firewall that drops. */
  stall(): void
  /** Passes everything on again, also what waited. */
  heal(): void
}

type State = 'open' | 'cut' | 'stalled'

class Proxy implements TcpProxy {
  readonly #server: Server
  readonly #targetPort: number
  readonly #sockets = new Set<Socket>()
  #state: State = 'open'

  constructor(targetPort: number) {
    this.#targetPort = targetPort
    this.#server = createServer((client) => this.#accept(client))
  }

  get port(): number {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed')
    return address.port
  }

  get connections(): number {
    return this.#sockets.size / 2
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(0, '127.0.0.1', resolve)
    })
  }

  cut(): void {
    this.#state = 'cut'
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  stall(): void {
    this.#state = 'stalled'
    for (const socket of this.#sockets) socket.pause()
  }

  heal(): void {
    this.#state = 'open'
    for (const socket of this.#sockets) socket.resume()
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #accept(client: Socket): void {
    if (this.#state === 'cut') {
      client.resetAndDestroy()
      return
    }
    const server = connect(this.#targetPort, '127.0.0.1')
    this.#join(client, server)
    this.#join(server, client)
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from)
    from.setNoDelay(true)
    from.on('data', (bytes) => to.write(bytes))
    if (this.#state === 'stalled') from.pause()
    from.once('error', () => to.destroy())
    from.once('close', () => {
      this.#sockets.delete(from)
      to.destroy()
    })
  }
}

/** Starts a proxy to a port on this machine; it ends with the test. */
export async function startTcpProxy(t: Test, targetPort: number): Promise<TcpProxy> {
  const proxy = new Proxy(targetPort)
  await proxy.listen()
  t.teardown(() => proxy.close())
  return proxy
}
