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
    const shared = await orAborted((this.#current ??= this.#startNext()), signal)
    if (shared.lost !== undefined) throw shared.lost
    return shared.join(listener)
  }

  async close(): Promise<void> {
    this.#closing.abort(
      new AdapterError('ADAPTER_STOPPING', 'this replica is stopping; repeat the request'),
    )
    await this.#options.transport.close()
  }

  /** Whoever needs a connection when this one is lost, or was not opened, starts another: whatever is told of this one late leaves that alone. */
  #startNext(): Promise<SharedConnection> {
    const drop = (): void => {
      if (this.#current === started) this.#current = undefined
    }
    const started = this.#start(drop)
    started.catch(drop)
    return started
  }

  /** `onLost`: no session can join it any more. */
  async #start(onLost: () => void): Promise<SharedConnection> {
    const { serverId, transport, initializeTimeoutMs, log } = this.#options
    const { signal } = this.#closing
    const { count } = this.#restarts
    const pauseMs = this.#restarts.pauseMs()
    if (count > 0) log.warn({ server: serverId, restarts: count }, 'shared server starts again')
    await delay(pauseMs, undefined, { signal }).catch(() => signal.throwIfAborted())
    const shared = new SharedConnection(initializeTimeoutMs, (error) => {
      onLost()
      if (!signal.aborted) this.#ended(error)
    })
    try {
      const connection = await transport.open(shared, [], signal)
      shared.over(connection)
      // What it said while it was opened was the end of it.
      if (shared.lost !== undefined) void connection.close()
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
