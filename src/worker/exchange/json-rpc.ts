/** Reads JSON-RPC envelopes; the only parser of request bodies. Values are kept as parsed: nothing is dropped or filled in. */
import { isUtf8 } from 'node:buffer'

import { AdapterError } from '../../shared/errors.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import {
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COMMA,
  endOfString,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
} from './json-bytes.ts'

/** A JSON-RPC id (MCP: a string or an integer, never null). */
export type RequestId = string | number

/** One message, told apart by what it has. `value` is the message as parsed. */
export type Message =
  | {
      readonly kind: 'request'
      readonly id: RequestId
      readonly method: string
      readonly params: JsonObject | undefined
      readonly value: JsonObject
    }
  | {
      readonly kind: 'notification'
      readonly method: string
      readonly params: JsonObject | undefined
      readonly value: JsonObject
    }
  | { readonly kind: 'response'; readonly id: RequestId | null; readonly value: JsonObject }

/** A body: one message or, in revision 2025-03-26, a batch. */
export interface Envelope {
  readonly isBatch: boolean
  readonly messages: readonly Message[]
}

/** Bodies above this size are checked for their number of values, whatever they look like, before they are parsed, in bytes. */
const UNCHECKED_BYTES = 65_536
/** Most nesting of a message. */
const MAX_DEPTH = 512
/** Most arrays, objects and members in one message: parsed, each takes some 20 to 60 bytes. */
const MAX_VALUES = 1_000_000

/** Most messages in a batch. */
const MAX_BATCH = 100

/** Parses a body. Throws `AdapterError` that says what is wrong with it. */
export function readEnvelope(body: Uint8Array | string): Envelope {
  const value = parseJson(body)
  if (!Array.isArray(value)) return { isBatch: false, messages: [readMessage(value)] }
  if (value.length === 0)
    throw new AdapterError('ADAPTER_INVALID_REQUEST', 'a batch must hold at least one message')
  if (value.length > MAX_BATCH)
    throw new AdapterError(
      'ADAPTER_INVALID_REQUEST',
      `a batch may hold at most ${MAX_BATCH} messages`,
    )
  const messages = value.map(readMessage)
  refuseRepeatedIds(messages)
  return { isBatch: true, messages }
}

/** Parses bytes that must be JSON in UTF-8, or the same as a string. Throws `AdapterError`. */
export function parseJson(body: Uint8Array | string): unknown {
  // A body that crossed as a string was small and ASCII.
  if (typeof body === 'string') {
    if (opensMany(body, '[', '{')) refuseBomb(Buffer.from(body, 'latin1'))
    return parseText(body)
  }
  if (!isUtf8(body)) throw new AdapterError('ADAPTER_PARSE_ERROR', 'the body is not valid UTF-8')
  if (body.byteLength > UNCHECKED_BYTES || opensMany(body, OPEN_ARRAY, OPEN_OBJECT))
    refuseBomb(body)
  return parseText(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8'))
}

/** Parses the data of an event of an upstream; undefined when it is not JSON. Throws ADAPTER_UPSTREAM_INVALID for what is too deep or has too many values. */
export function parseEventData(data: string): unknown {
  try {
    if (data.length > UNCHECKED_BYTES || opensMany(data, '[', '{')) refuseBomb(Buffer.from(data))
  } catch (error) {
    const why = error instanceof Error ? error.message : ''
    throw new AdapterError('ADAPTER_UPSTREAM_INVALID', `an event of the upstream server: ${why}`, {
      cause: error,
    })
  }
  try {
    return JSON.parse(data)
  } catch {
    return undefined
  }
}

function parseText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AdapterError('ADAPTER_PARSE_ERROR', 'the body is not valid JSON', { cause: error })
  }
}

/** Ids of different types are different ids: `1` is not `"1"`. */
export function idKey(id: unknown): string {
  return JSON.stringify(id) ?? 'undefined'
}

/**
 * Finds what waits for a response, by each id that a client may take the response's for. The official SDKs read `"5"` as 5: an upstream that writes it
 * so must not get past what is to be done with the answer.
 */
export function findByResponseId<T>(
  id: unknown,
  find: (key: string) => T | undefined,
): T | undefined {
  const found = find(idKey(id))
  if (found !== undefined) return found
  if (typeof id === 'number') return find(idKey(String(id)))
  const number = typeof id === 'string' ? Number(id) : NaN
  return Number.isNaN(number) ? undefined : find(idKey(number))
}

/** Whether what a server sent is a request or a notification. Some clients read a method that is no text as none. */
export function hasMethod(message: JsonObject): boolean {
  return typeof message['method'] === 'string'
}

/** Whether a parsed value is a JSON object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Two requests of one id could not be told apart by their answers. */
function refuseRepeatedIds(messages: readonly Message[]): void {
  const seen = new Set<RequestId>()
  for (const message of messages) {
    if (message.kind !== 'request') continue
    if (seen.has(message.id))
      throw new AdapterError('ADAPTER_INVALID_REQUEST', 'two requests of a batch have the same id')
    seen.add(message.id)
  }
}

function readMessage(value: unknown): Message {
  if (!isObject(value) || value['jsonrpc'] !== '2.0') {
    throw new AdapterError(
      'ADAPTER_INVALID_REQUEST',
      'a message must be a JSON object with "jsonrpc": "2.0"',
    )
  }
  const { method, id, params } = value
  if (method === undefined) return readResponse(value)
  if (typeof method !== 'string')
    throw new AdapterError('ADAPTER_INVALID_REQUEST', '"method" must be a string')
  if (params !== undefined && !isObject(params)) {
    throw new AdapterError('ADAPTER_INVALID_REQUEST', '"params" must be an object')
  }
  if (!Object.hasOwn(value, 'id')) return { kind: 'notification', method, params, value }
  if (!isRequestId(id))
    throw new AdapterError('ADAPTER_INVALID_REQUEST', '"id" must be a string or an integer')
  return { kind: 'request', id, method, params, value }
}

function readResponse(value: JsonObject): Message {
  const { id } = value
  if (!Object.hasOwn(value, 'result') && !Object.hasOwn(value, 'error')) {
    throw new AdapterError(
      'ADAPTER_INVALID_REQUEST',
      'a message must have "method", "result" or "error"',
    )
  }
  if (id !== null && id !== undefined && !isRequestId(id)) {
    throw new AdapterError('ADAPTER_INVALID_REQUEST', '"id" must be a string or an integer')
  }
  return { kind: 'response', id: id ?? null, value }
}

function isRequestId(id: unknown): id is RequestId {
  return typeof id === 'string' || (typeof id === 'number' && Number.isInteger(id))
}

/** Whether there are enough brackets to be nested too deep. Most bodies have a few, so this is cheaper than to count their depth. */
function opensMany<T extends string | number>(
  body: { readonly length: number; indexOf(searched: T, from: number): number },
  array: T,
  object: T,
): boolean {
  if (body.length <= 2 * MAX_DEPTH) return false
  let count = 0
  for (const bracket of [array, object]) {
    let at = body.indexOf(bracket, 0)
    for (; at !== -1 && count <= MAX_DEPTH; at = body.indexOf(bracket, at + 1)) count++
  }
  return count > MAX_DEPTH
}

/** Counts nesting and values without building any: a few megabytes of brackets would parse into hundreds. */
function refuseBomb(body: Uint8Array): void {
  let depth = 0
  let values = 0
  for (let i = 0; i < body.length; i++) {
    const byte = body[i]
    if (byte === QUOTE) i = endOfString(body, i + 1)
    else if (byte === COMMA) values++
    else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth--
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      values++
      depth++
    }
    if (depth > MAX_DEPTH) {
      throw new AdapterError(
        'ADAPTER_INVALID_REQUEST',
        `the message is nested deeper than ${MAX_DEPTH} levels`,
      )
    }
    if (values > MAX_VALUES)
      throw new AdapterError(
        'ADAPTER_INVALID_REQUEST',
        `the message holds more than ${MAX_VALUES} values`,
      )
  }
}

/** An error of ours as the response to a request. */
export function rpcError(error: AdapterError, id: RequestId | null): JsonObject {
  // What `toJsonRpc` writes is an object.
  const response: JsonObject = JSON.parse(error.toJsonRpc(id))
  return response
}
