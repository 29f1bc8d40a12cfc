/**
 * Tells the two eras of MCP apart, by the body and never by a header alone: a request of revision 2026-07-28 claims its revision in
 * `params._meta` (basic/lifecycle of that revision); everything else belongs to a session.
 */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'
import type { JsonObject } from '../../shared/state/records.ts'
import { isObject } from './json-rpc.ts'
import type { Envelope, Message } from './json-rpc.ts'

const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion'
const CAPABILITIES_KEY = 'io.modelcontextprotocol/clientCapabilities'

/** First revision without sessions. Revisions are dates, so later ones compare greater. */
const FIRST_STATELESS_REVISION = '2026-07-28'

/** Methods whose `Mcp-Name` header repeats a parameter, and which one. */
const NAMED_BY: Readonly<Record<string, string>> = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
  'tasks/get': 'taskId',
  'tasks/update': 'taskId',
  'tasks/cancel': 'taskId',
}

/** Which way a POST goes. */
export type Era =
  | { readonly kind: 'session' }
  | { readonly kind: 'stateless'; readonly message: Message }

const SESSION: Era = { kind: 'session' }

/**
 * Classifies a POST and validates a stateless one's headers against its body. Throws `AdapterError`: ADAPTER_HEADER_MISMATCH,
 * ADAPTER_INVALID_PARAMS (a stateless header without the claim), ADAPTER_INVALID_REQUEST (a response, which this era never posts).
 */
export function classify(envelope: Envelope, headers: HeaderList): Era {
  const [message] = envelope.messages
  if (envelope.isBatch || message === undefined) return SESSION
  const claim = message.kind === 'response' ? undefined : metaOf(message)?.[VERSION_KEY]
  if (typeof claim !== 'string') return withoutClaim(message, headers)
  if (message.kind === 'request') validateHeaders(message, claim, headers)
  return { kind: 'stateless', message }
}

/** The `_meta` of a message's params. */
export function metaOf(message: Exclude<Message, { kind: 'response' }>): JsonObject | undefined {
  const meta = message.params?.['_meta']
  return isObject(meta) ? meta : undefined
}

function withoutClaim(message: Message, headers: HeaderList): Era {
  const version = headerValue(headers, 'mcp-protocol-version')
  if (version === undefined || !isStateless(version)) return SESSION
  switch (message.kind) {
    case 'response':
      throw new AdapterError(
        'ADAPTER_INVALID_REQUEST',
        `revision ${FIRST_STATELESS_REVISION} has no requests from server to client, so no response may be posted`,
      )
    case 'request':
      if (message.method === 'initialize') return SESSION
      throw new AdapterError(
        'ADAPTER_INVALID_PARAMS',
        `params._meta must hold ${VERSION_KEY} and ${CAPABILITIES_KEY}`,
      )
    case 'notification':
      return { kind: 'stateless', message }
  }
}

function isStateless(version: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(version) && version >= FIRST_STATELESS_REVISION
}

function validateHeaders(
  message: Extract<Message, { kind: 'request' }>,
  claim: string,
  headers: HeaderList,
): void {
  expectHeader(headers, 'mcp-protocol-version', claim)
  expectHeader(headers, 'mcp-method', message.method)
  const parameter = NAMED_BY[message.method]
  const name = parameter === undefined ? undefined : message.params?.[parameter]
  if (typeof name === 'string') expectHeader(headers, 'mcp-name', name)
  if (!isObject(metaOf(message)?.[CAPABILITIES_KEY])) {
    throw new AdapterError('ADAPTER_INVALID_PARAMS', `params._meta must hold ${CAPABILITIES_KEY}`)
  }
}

function expectHeader(headers: HeaderList, name: string, expected: string): void {
  const value = headerValue(headers, name)
  if (value === undefined)
    throw new AdapterError('ADAPTER_HEADER_MISMATCH', `header ${name} is missing`)
  if (decodeHeader(value) !== expected)
    throw new AdapterError(
      'ADAPTER_HEADER_MISMATCH',
      `header ${name} says something else than the body`,
    )
}

/** Undoes the base64 form that carries what a header can't (`=?base64?…?=`); undefined when that form is malformed. */
function decodeHeader(value: string): string | undefined {
  const encoded = /^=\?base64\?(.*)\?=$/.exec(value)?.[1]
  if (encoded === undefined) return value
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(encoded)) return undefined
  return Buffer.from(encoded, 'base64').toString('utf8')
}
