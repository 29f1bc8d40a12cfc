/**
 * One connection for several sessions: initialised once, with ids and progress tokens of its own, so that no session can reach another's calls. What can't
 * be told whose it is goes to nobody. Messages are written anew: of repeated keys the last counts, and unknown ones beside `params` are left out.
 */
import { AdapterError } from '../../../../shared/errors.ts'
import type { JsonObject } from '../../../../shared/state/records.ts'
import { idKey, isObject, readEnvelope } from '../../../exchange/json-rpc.ts'
import type { Message, RequestId } from '../../../exchange/json-rpc.ts'
import { toAdapterError } from '../../../exchange/adapter-error.ts'
import type { MessageConnection, MessageListener } from '../message-connection.ts'
import { readMessages } from '../upstream-message.ts'
import type { UpstreamMessage } from '../upstream-message.ts'
import { SharedMember } from './shared-member.ts'
import type { MemberHub } from './shared-member.ts'
import { Subscriptions } from './subscriptions.ts'

type Request = Extract<Message, { kind: 'request' }>
type Notification = Extract<Message, { kind: 'notification' }>

/** Most requests under way, those of sessions that left included. */
const MAX_PENDING = 4_096

/** A request under way, under an id of ours. */
interface Pending {
  readonly member: SharedMember
  readonly id: RequestId
  readonly token: unknown
  /** What it subscribes to, if it does. */
  readonly uri: string | undefined
}

/** See the file comment. */
export class SharedConnection implements MessageListener, MemberHub {
  readonly #initializeTimeoutMs: number
  readonly #onLost: (error: AdapterError) => void
  readonly #members = new Set<SharedMember>()
  readonly #pending = new Map<number, Pending>()
  readonly #subscriptions = new Subscriptions()
  readonly #early: UpstreamMessage[] = []
  #connection: MessageConnection | undefined
  #nextId = 1
  #initializing: Promise<JsonObject> | undefined
  #initializeId = 0
  #timer: NodeJS.Timeout | undefined
  #onInitialized: (response: JsonObject) => void = () => {}
  #isInitialized = false
  #lost: AdapterError | undefined

  /** `onLost` is called once, when the connection is lost and was not closed. */
  constructor(initializeTimeoutMs: number, onLost: (error: AdapterError) => void) {
    this.#initializeTimeoutMs = initializeTimeoutMs
    this.#onLost = onLost
  }

  /** Why no session can join any more; undefined while one can. */
  get lost(): AdapterError | undefined {
    return this.#lost
  }

  /** How many sessions share it. */
  get size(): number {
    return this.#members.size
  }

  /** What it shares. */
  over(connection: MessageConnection): void {
    this.#connection = connection
    for (const message of this.#early.splice(0)) this.#take(message)
  }

  join(listener: MessageListener): SharedMember {
    const member = new SharedMember(this, listener)
    this.#members.add(member)
    return member
  }

  async send(member: SharedMember, bytes: Uint8Array): Promise<void> {
    if (this.#lost !== undefined) throw this.#lost
    for (const message of readEnvelope(bytes).messages) {
      if (message.kind === 'request') await this.#sendRequest(member, message)
      else if (message.kind === 'notification') await this.#sendNotification(member, message)
      // A response has nothing to answer: no request of the server's is passed on.
    }
  }

  /** What the session has under way is cancelled: nobody can see it any more. */
  leave(member: SharedMember): void {
    if (!this.#members.delete(member)) return
    this.#subscriptions.leave(member)
    for (const [requestId, pending] of this.#pending) {
      if (pending.member !== member) continue
      this.#pending.delete(requestId)
      const params = { requestId, reason: 'the session was ended' }
      this.#tell({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
    }
  }

  message(bytes: Uint8Array): void {
    let messages: readonly UpstreamMessage[]
    try {
      messages = readMessages(bytes)
    } catch (error) {
      this.fail(toAdapterError(error))
      return
    }
    for (const message of messages) {
      if (this.#connection === undefined) this.#early.push(message)
      else this.#take(message)
    }
  }

  closed(error: AdapterError): void {
    if (this.#lost !== undefined) return
    this.#lost = error
    clearTimeout(this.#timer)
    for (const member of this.#members) member.lose(error)
    this.#members.clear()
    this.#pending.clear()
    this.#onLost(error)
  }

  /** Ends the connection for a reason, which everybody is told. */
  fail(error: AdapterError): void {
    this.closed(error)
    void this.#connection?.close()
  }

  async #sendRequest(member: SharedMember, request: Request): Promise<void> {
    const { id, method, params } = request
    if (method === 'initialize') {
      // Its answer is waited for elsewhere.
      this.#initialize(member, request).catch((error: unknown) => this.fail(toAdapterError(error)))
      return
    }
    const uri = typeof params?.['uri'] === 'string' ? params['uri'] : undefined
    const isUnsubscribe = method === 'resources/unsubscribe' && uri !== undefined
    if (isUnsubscribe && !this.#subscriptions.remove(uri, member)) {
      // Others still want it.
      process.nextTick(() => member.deliver({ jsonrpc: '2.0', id, result: {} }))
      return
    }
    if (this.#pending.size >= MAX_PENDING) {
      const message = `${MAX_PENDING} requests are under way at the shared process of this server`
      throw new AdapterError('ADAPTER_OVERLOADED', message)
    }
    const ours = this.#nextId++
    const meta = params?.['_meta']
    const token = isObject(meta) ? meta['progressToken'] : undefined
    this.#pending.set(ours, {
      member,
      id,
      token,
      uri: method === 'resources/subscribe' ? uri : undefined,
    })
    const sent =
      isObject(meta) && token !== undefined
        ? { ...params, _meta: { ...meta, progressToken: ours } }
        : params
    try {
      await this.#write({ jsonrpc: '2.0', id: ours, method, ...(sent && { params: sent }) })
    } catch (error) {
      this.#pending.delete(ours)
      throw error
    }
  }

  async #sendNotification(member: SharedMember, { method, params }: Notification): Promise<void> {
    switch (method) {
      case 'notifications/initialized':
        if (this.#isInitialized) return
        this.#isInitialized = true
        break
      case 'notifications/cancelled': {
        const key = idKey(params?.['requestId'])
        const [ours] =
          [...this.#pending].find(([, one]) => one.member === member && idKey(one.id) === key) ?? []
        if (ours === undefined) return
        await this.#write({ jsonrpc: '2.0', method, params: { ...params, requestId: ours } })
        return
      }
      // About requests of the server's, which it may not make, and roots, which it was told of none.
      case 'notifications/progress':
      case 'notifications/roots/list_changed':
        return
      default:
    }
    await this.#write({ jsonrpc: '2.0', method, ...(params && { params }) })
  }

  /** The first session's `initialize` is sent, without its capabilities: nobody in particular could be asked. The others get the same answer. */
  async #initialize(member: SharedMember, { id, params }: Request): Promise<void> {
    const initializing = (this.#initializing ??= this.#initializeOnce(params))
    const response = await initializing
    // One that was refused may be asked again.
    if (!isObject(response['result']) && this.#initializing === initializing)
      this.#initializing = undefined
    member.deliver({ ...response, id })
  }

  /** Resolves with the response. */
  async #initializeOnce(params: JsonObject | undefined): Promise<JsonObject> {
    const ours = this.#nextId++
    this.#initializeId = ours
    const answered = new Promise<JsonObject>((resolve) => {
      this.#onInitialized = resolve
    })
    this.#timer = setTimeout(() => this.fail(tooSlow()), this.#initializeTimeoutMs)
    const { protocolVersion, clientInfo } = params ?? {}
    await this.#write({
      jsonrpc: '2.0',
      id: ours,
      method: 'initialize',
      params: { protocolVersion, capabilities: {}, clientInfo },
    })
    return answered
  }

  #take({ kind, value }: UpstreamMessage): void {
    if (kind === 'response') {
      this.#takeResponse(value)
      return
    }
    const { method, params, id } = value
    if (kind === 'request') {
      const outcome =
        method === 'ping'
          ? { result: {} }
          : { error: { code: -32601, message: 'a shared process can not ask its clients' } }
      this.#tell({ jsonrpc: '2.0', id, ...outcome })
    } else if (method === 'notifications/progress') this.#takeProgress(value)
    else if (method === 'notifications/resources/updated') {
      const uri = isObject(params) ? params['uri'] : undefined
      for (const member of this.#subscriptions.of(uri)) member.deliver(value)
    } else if (String(method).endsWith('/list_changed')) {
      for (const member of this.#members) member.deliver(value)
    }
    // Whatever else it says may be about one session, and nobody knows which.
  }

  #takeResponse(response: JsonObject): void {
    const { id, result } = response
    if (typeof id !== 'number') return
    if (id === this.#initializeId) {
      clearTimeout(this.#timer)
      this.#onInitialized(response)
      return
    }
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    if (pending === undefined) return
    const { member, uri } = pending
    if (uri !== undefined && isObject(result)) this.#subscriptions.add(uri, member)
    member.deliver({ ...response, id: pending.id })
  }

  #takeProgress(notification: JsonObject): void {
    const { params } = notification
    const token = isObject(params) ? params['progressToken'] : undefined
    const pending = typeof token === 'number' ? this.#pending.get(token) : undefined
    if (pending?.token === undefined || !isObject(params)) return
    pending.member.deliver({ ...notification, params: { ...params, progressToken: pending.token } })
  }

  async #write(message: JsonObject): Promise<void> {
    if (this.#lost !== undefined) throw this.#lost
    await this.#connection?.send(Buffer.from(JSON.stringify(message)), [])
  }

  /** Where nobody waits to hear of a failure: a connection that is lost says so by itself. */
  #tell(message: JsonObject): void {
    this.#write(message).catch(() => undefined)
  }
}

function tooSlow(): AdapterError {
  return new AdapterError(
    'ADAPTER_UPSTREAM_TIMEOUT',
    'the shared process of the upstream server did not answer initialize in time and was ended',
  )
}
