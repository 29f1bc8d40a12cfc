/** One connection for all sessions of a worker, over any transport: opened by the first, opened again when it is lost and somebody needs it. */
import { setTimeout as delay } from 'node:timers/promises'

import { AdapterError } from '../../../../shared/errors.ts'
import type { HeaderList } from '../../../../shared/frames/frames.ts'
import type { Log } from '../../../../shared/log.ts'
import { toAdapterError } from '../../../exchange/adapter-error.ts'
import type { MessageConnection, MessageListener, MessageTransport } from '../message-connection.ts'
import { RestartLimit } from './restart-limit.ts'
import { SharedConnection } from './shared-connection.ts'

/** How a connection is shared. */
export interface SharedTransportOptions {
  readonly serverId: string
  readonly transport: MessageTransport
  /** Longest wait for the answer to `initialize`, in milliseconds; beyond it the connection is ended. */
  readonly initializeTimeoutMs: number
  readonly maxRestarts: number
  readonly windowMs: number
  readonly log: Log
}

/** See the file comment. */
export class SharedTransport implements MessageTransport {
  readonly #options: SharedTransportOptions
  readonly #restarts: RestartLimit
  readonly #closing = new AbortController()
  #current: Promise<SharedConnection> | undefined

  constructor(options: SharedTransportOptions) {
    this.#options = options
    this.#restarts = new RestartLimit(options.maxRestarts, options.windowMs)
  }

  async open(
    listener: MessageListener,
    _headers: HeaderList,
    signal: AbortSignal,
  ): Promise<MessageConnection> {
    this.#current ??= this.#start().catch((error: unknown) => {
      this.#current = undefined
      throw error
    })
    const shared = await orAborted(this.#current, signal)
    if (shared.lost !== undefined) throw shared.lost
    return shared.join(listener)
  }

  async close(): Promise<void> {
    this.#closing.abort(
      new AdapterError('ADAPTER_STOPPING', 'this replica is stopping; repeat the request'),
    )
    await this.#options.transport.close()
  }

  async #start(): Promise<SharedConnection> {
    const { serverId, transport, initializeTimeoutMs, log } = this.#options
    const { signal } = this.#closing
    const { count } = this.#restarts
    const pauseMs = this.#restarts.pauseMs()
    if (count > 0) log.warn({ server: serverId, restarts: count }, 'shared server starts again')
    await delay(pauseMs, undefined, { signal }).catch(() => signal.throwIfAborted())
    const shared = new SharedConnection(initializeTimeoutMs, (error) => {
      this.#current = undefined
      if (!signal.aborted) this.#ended(error)
    })
    try {
      shared.over(await transport.open(shared, [], signal))
    } catch (error) {
      if (shared.lost === undefined && !signal.aborted) this.#ended(toAdapterError(error))
      throw error
    }
    return shared
  }

  #ended(error: AdapterError): void {
    const { serverId, log, maxRestarts } = this.#options
    this.#restarts.ended()
    const about = { server: serverId, reason: error.message, restarts: this.#restarts.count }
    if (about.restarts > maxRestarts)
      log.error(about, 'shared server ends again and again; it is not started again for now')
  }
}

/** The outcome, unless the one who waits for it is gone before. */
async function orAborted<T>(outcome: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(toAdapterError(signal.reason))
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([outcome, aborted])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
