/** A transport whose other end is the test: it sees what is sent, and says what comes. */
import type { AdapterError } from '../../src/shared/errors.ts'
import type {
  MessageConnection,
  MessageListener,
  MessageTransport,
} from '../../src/worker/upstream/bound/message-connection.ts'
import { eventually } from './eventually.ts'

/** What tests look at in a message. */
export interface SentMessage {
  readonly id?: unknown
  readonly method?: string
  readonly params?: Readonly<Record<string, unknown>>
  readonly result?: unknown
  readonly error?: { readonly code: number }
}

/** One connection, as the other end has it. */
export class ScriptedConnection implements MessageConnection {
  readonly sent: SentMessage[] = []
  /** As bytes. */
  readonly raw: string[] = []
  isPaused = false
  isClosed = false
  /** What `send` rejects with. */
  refusal: AdapterError | undefined
  readonly #listener: MessageListener
  readonly #answer: (message: SentMessage, connection: ScriptedConnection) => void

  constructor(
    listener: MessageListener,
    answer: (message: SentMessage, connection: ScriptedConnection) => void,
  ) {
    this.#listener = listener
    this.#answer = answer
  }

  async send(message: Uint8Array): Promise<void> {
    if (this.refusal !== undefined) throw this.refusal
    const text = Buffer.from(message).toString('utf8')
    this.raw.push(text)
    const parsed = JSON.parse(text) as SentMessage // what it holds is for the test to check
    this.sent.push(parsed)
    this.#answer(parsed, this)
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  /** A message of the upstream's; text is sent as it is. */
  say(message: unknown): void {
    const text = typeof message === 'string' ? message : JSON.stringify(message)
    this.#listener.message(Buffer.from(text))
  }

  answer(id: unknown, result: unknown = {}): void {
    this.say({ jsonrpc: '2.0', id, result })
  }

  lose(error: AdapterError): void {
    this.#listener.closed(error)
  }

  /** Waits until a message with this method was sent; the last one. */
  async received(method: string): Promise<SentMessage> {
    const find = (): SentMessage | undefined =>
      this.sent.findLast((message) => message.method === method)
    await eventually(`${method} is sent`, () => find() !== undefined)
    return find() ?? {}
  }
}

/** See the file comment. */
export class ScriptedTransport implements MessageTransport {
  readonly connections: ScriptedConnection[] = []
  /** What `open` rejects with. */
  refusal: AdapterError | undefined
  isClosed = false
  /** Reacts to what is sent; without, `initialize` is answered. */
  onSent: (message: SentMessage, connection: ScriptedConnection) => void = answerInitialize

  async open(listener: MessageListener): Promise<MessageConnection> {
    if (this.refusal !== undefined) throw this.refusal
    const connection = new ScriptedConnection(listener, (message, one) => this.onSent(message, one))
    this.connections.push(connection)
    return connection
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  /** The one opened last. */
  get last(): ScriptedConnection {
    const connection = this.connections.at(-1)
    if (connection === undefined) throw new Error('no connection was opened')
    return connection
  }
}

/** What an ordinary server answers to `initialize`. */
export const INITIALIZE_RESULT = {
  protocolVersion: '2025-06-18',
  capabilities: { tools: {} },
  serverInfo: { name: 'scripted', version: '1' },
}

/** Answers `initialize`, and nothing else. */
export function answerInitialize(message: SentMessage, connection: ScriptedConnection): void {
  if (message.method === 'initialize') connection.answer(message.id, INITIALIZE_RESULT)
}
