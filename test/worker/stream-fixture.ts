/** Endpoints of several replicas in one process: they share a store and an upstream, and each has a listening socket of its own. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { MessageChannel } from 'node:worker_threads'

import type { Test } from 'tap'

import { stringify } from 'yaml'

import { FileStore } from '../../src/shared/files/file-store.ts'
import type { Log } from '../../src/shared/log.ts'
import { UrlSigner } from '../../src/shared/signing.ts'
import { StoreHost } from '../../src/shared/state/host.ts'
import { openLocalStore } from '../../src/shared/state/open.ts'
import { RemoteStore } from '../../src/shared/state/remote.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import { McpEndpoint } from '../../src/worker/exchange/mcp-endpoint.ts'
import type { Exchange, RequestHead } from '../../src/worker/exchange/exchange.ts'
import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import { Handshake } from '../../src/worker/session/handshake.ts'
import { SessionRegistry } from '../../src/worker/session/registry.ts'
import { StreamHolder } from '../../src/worker/stream/stream-holder.ts'
import { clientOptions } from '../../src/worker/upstream/client-options.ts'
import { StreamableHttpUpstream } from '../../src/worker/upstream/streamable-http.ts'
import { load } from '../shared/config-loading.ts'
import { WireSession } from '../support/wire.ts'
import { ANYBODYS } from '../support/anybodys.ts'
import { POLICY, tempRoot } from './files-fixture.ts'

/** A store that all members share. Its clock can be moved, so that leases end. */
export interface SharedStore {
  readonly clock: { aheadMs: number }
  /** Another end of it. */
  connect(): RemoteStore
  /** Goes on with an empty memory of leases, as after a restart. */
  forgetLeases(): Promise<void>
}

/** One replica. */
export interface Member {
  readonly id: string
  /** Of its MCP endpoint. */
  readonly url: string
  readonly store: RemoteStore
  readonly streams: StreamHolder
  /** Messages that it logged. */
  readonly log: { readonly fields: Readonly<Record<string, unknown>>; readonly text: string }[]
  /** The session as seen through it. */
  see(session: WireSession): WireSession
  /** Ends at once without a word to anybody. */
  crash(): Promise<void>
}

export async function openShared(t: Test, path: string): Promise<SharedStore> {
  const clock = { aheadMs: 0 }
  const policy: StorePolicy = POLICY
  const open = () =>
    openLocalStore(
      {
        type: 'disk',
        path,
        walEnabled: true,
        snapshotPath: null,
        snapshotIntervalMs: 60_000,
        refreshOnStartup: false,
        policy,
      },
      { clock: () => Date.now() + clock.aheadMs },
    )
  let store = open()
  const host = new StoreHost(store)
  t.teardown(() => host.close())
  return {
    clock,
    connect: () => {
      const { port1, port2 } = new MessageChannel()
      host.connect(port1)
      return new RemoteStore(port2)
    },
    forgetLeases: async () => {
      await store.close()
      store = open()
      host.serve(store)
    },
  }
}

/** What members differ in from their defaults. */
export interface MemberOptions {
  readonly shared: SharedStore
  readonly upstreamUrl: string
  /** Fields of `servers[].upstream`. */
  readonly upstream?: object
  /** Fields of the server. */
  readonly server?: object
  readonly id?: string
  readonly isReplacement?: boolean
  readonly root?: string
}

let members = 0

/** Starts one; stopped with the test. */
export async function startMember(t: Test, options: MemberOptions): Promise<Member> {
  const { shared, upstreamUrl, id = `replica-${++members}`, isReplacement = false } = options
  const config = load(
    stringify({
      servers: [
        {
          id: 'srv',
          mount_path: '/mcp',
          ...options.server,
          upstream: { url: upstreamUrl, ...options.upstream },
        },
      ],
    }),
  )
  const [server] = config.servers
  if (server === undefined) throw new Error('no server')
  const log: Member['log'] = []
  const note = (fields: Readonly<Record<string, unknown>>, text: string) =>
    void log.push({ fields, text })
  // Only the methods that the program calls, in the one form that it uses.
  const logger = { debug: note, info: note, warn: note, error: note } as unknown as Log
  const store = shared.connect()
  const upstream = new StreamableHttpUpstream(
    clientOptions(server.upstream, () => {}),
    false,
  )
  const root = options.root ?? (await tempRoot(t))
  const services = {
    config,
    store,
    files: new FileStore({ root, atomicWrites: false }),
    signer: new UrlSigner({ secrets: ['test secret'] }),
    digests: openDigestPool(),
  }
  const registry = new SessionRegistry(store, {
    idleTtlMs: null,
    copyLeaseMs: 3_000,
    owners: ANYBODYS,
  })
  const placement = { index: 0, workers: 1 }
  const common = { upstreamOf: () => ({ server, upstream }), placement, replicaId: id, log: logger }
  const handshake = new Handshake({ registry, ...common })
  const roots = undefined
  const streams = new StreamHolder({ store, maxEventBytes: 1_000_000, roots, ...common })
  streams.start({ isReplacement })
  const endpoint = new McpEndpoint({
    server,
    config,
    services,
    upstream,
    registry,
    handshake,
    streams,
    roots,
    sandboxes: undefined,
    log: logger,
    fallbackBaseUrl: 'http://127.0.0.1',
  })
  const front = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () =>
      endpoint.handle(new HttpExchange(request, response, Buffer.concat(parts))),
    )
  })
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve))
  const address = front.address()
  if (address === null || typeof address === 'string') throw new Error('it is not a TCP socket')
  const url = `http://127.0.0.1:${address.port}/mcp`
  let isOver = false
  const crash = async (): Promise<void> => {
    if (isOver) return
    isOver = true
    await store.close()
    front.closeAllConnections()
    front.close()
    await upstream.close()
    await streams.handOver()
    endpoint.closeStreams()
    await registry.stop().catch(() => undefined)
    await services.digests.close()
  }
  t.teardown(crash)
  return {
    id,
    url,
    store,
    streams,
    log,
    see: (session) => new WireSession(url, session.id, session.version),
    crash,
  }
}

class HttpExchange implements Exchange {
  readonly request: RequestHead
  readonly #out: ServerResponse
  #open = true

  constructor(request: IncomingMessage, response: ServerResponse, body: Buffer) {
    this.#out = response
    this.request = {
      route: 'mcp',
      serverIndex: 0,
      method: request.method ?? 'GET',
      target: request.url ?? '/',
      headers: request.rawHeaders.map((text, i) => (i % 2 === 0 ? text.toLowerCase() : text)),
      body,
      principal: '',
    }
    response.on('close', () => {
      this.#open = false
    })
  }

  get isOpen(): boolean {
    return this.#open
  }

  readBody(): void {}
  pauseBody(): void {}
  resumeBody(): void {}

  onAbort(listener: () => void): void {
    this.#out.once('close', () => {
      if (!this.#out.writableEnded) listener()
    })
  }

  respond(status: number, headers: readonly string[], body: Uint8Array | string = ''): void {
    this.begin(status, headers)
    this.#out.write(body)
    this.end()
  }

  begin(status: number, headers: readonly string[]): void {
    if (!this.#open) return
    this.#out.writeHead(status, [...headers])
    this.#out.flushHeaders()
  }

  write(chunk: Uint8Array): boolean {
    return !this.#open || this.#out.write(chunk)
  }

  onDrain(listener: () => void): void {
    this.#out.on('drain', listener)
  }

  end(): void {
    this.#open = false
    this.#out.end()
  }

  reset(): void {
    this.#open = false
    this.#out.destroy()
  }

  sendFile(): void {
    throw new Error('there are no files here')
  }
}
