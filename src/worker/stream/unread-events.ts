/** Events of an upstream's standalone stream that arrive while no client reads it: pings are answered, everything else is stored for the client. */
import type { Log } from '../../shared/log.ts'
import { eventData } from '../../shared/sse-event.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'
import { isObject, parseEventData } from '../exchange/json-rpc.ts'
import type { Lease } from './lease.ts'

/** Messages that wait to be stored. The store keeps as many. */
const MAX_MESSAGES = 256
/** Characters of them. */
const MAX_CHARS = 1_048_576
/** Least time between two times that they are stored, in milliseconds. */
const KEEP_INTERVAL_MS = 100

/** What happens to them is decided with these. */
export interface UnreadEventsOptions {
  readonly store: StateStore
  readonly key: SessionKey
  readonly lease: Lease
  readonly log: Log
  readonly answerPing: (id: unknown) => void
  /** The lease of this epoch is lost. */
  readonly onLost: (epoch: number) => void
  /** Runs something that asks the store when nothing else does. */
  readonly schedule: (step: () => Promise<void>) => void
  /** Holds the upstream back while there is no room. */
  readonly pace: { readonly pause: () => void; readonly resume: () => void }
}

/** See the file comment. */
export class UnreadEvents {
  readonly #options: UnreadEventsOptions
  #messages: string[] = []
  #chars = 0
  #isScheduled = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: UnreadEventsOptions) {
    this.#options = options
  }

  /** Takes an event. What is not JSON-RPC has nobody to be read by. */
  add(event: Uint8Array): void {
    for (const { message, text } of messagesIn(event)) {
      if (isObject(message) && message['method'] === 'ping' && message['id'] !== undefined)
        this.#options.answerPing(message['id'])
      else this.#push(text)
    }
    if (this.#messages.length >= MAX_MESSAGES || this.#chars >= MAX_CHARS)
      this.#options.pace.pause()
    this.#keepSoon()
  }

  /** All that there is for the client, oldest first; it is the caller's then. */
  async take(): Promise<readonly string[]> {
    const { store, key, lease, log } = this.#options
    const { epoch } = lease
    let kept: readonly string[] = []
    try {
      // Under the first epoch nothing was stored.
      if (epoch > 1) kept = await store.takeEvents(key, epoch)
    } catch (error) {
      log.debug({ err: error }, 'kept events could not be read')
    }
    return [...kept, ...this.#drain()]
  }

  /** Takes back what nobody got. */
  putBack(messages: readonly string[]): void {
    const later = this.#drain()
    for (const message of [...messages, ...later]) this.#push(message)
    this.#keepSoon()
  }

  /** Stores what is here; for the end. */
  async keep(): Promise<void> {
    if (this.#messages.length === 0) return
    const { store, key, lease, onLost } = this.#options
    const { epoch } = lease
    const messages = this.#drain()
    try {
      if (!(await store.keepEvents(key, epoch, messages))) onLost(epoch)
    } catch (error) {
      this.putBack(messages)
      throw error
    }
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  /** At once, and then as seldom as it can be without losing any. */
  #keepSoon(): void {
    if (this.#isScheduled || this.#messages.length === 0) return
    this.#isScheduled = true
    const { schedule, log, pace } = this.#options
    schedule(async () => {
      const hadSome = this.#messages.length > 0
      try {
        await this.keep()
      } catch (error) {
        log.debug({ err: error }, 'events could not be kept')
      }
      // Also when the store fails: pings have to be answered. A client that came meanwhile paces the stream itself.
      if (hadSome) pace.resume()
      this.#timer = setTimeout(() => {
        this.#isScheduled = false
        this.#keepSoon()
      }, KEEP_INTERVAL_MS)
      this.#timer.unref()
    })
  }

  #drain(): readonly string[] {
    const messages = this.#messages
    this.#messages = []
    this.#chars = 0
    return messages
  }

  /** As the store does, the oldest go when there are too many. */
  #push(message: string): void {
    this.#messages.push(message)
    this.#chars += message.length
    while (this.#messages.length > MAX_MESSAGES || this.#chars > MAX_CHARS)
      this.#chars -= this.#messages.shift()?.length ?? 0
  }
}

/** The messages in an event, which may be a batch, each with its text on one line. */
function messagesIn(event: Uint8Array): readonly { message: unknown; text: string }[] {
  const data = eventData(event)
  if (data === undefined || data === '') return []
  let value: unknown
  try {
    value = parseEventData(data)
  } catch {
    return []
  }
  if (value === undefined) return []
  // The text as it came where that can be: parsing has rounded numbers that are too large for it.
  if (!Array.isArray(value) && !data.includes('\n')) return [{ message: value, text: data }]
  const messages: readonly unknown[] = Array.isArray(value) ? value : [value]
  return messages.map((message) => ({ message, text: JSON.stringify(message) }))
}
