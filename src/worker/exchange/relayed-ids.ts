/**
 * Ids of an upstream's requests as its client gets them, where the adapter answers some of them itself: signed, so that a client can answer only what
 * it was asked. Else it could guess the id of a request for roots and be quicker than the adapter. Nothing is remembered: any replica can tell.
 */
import type { UrlSigner } from '../../shared/signing.ts'
import type { SessionKey } from '../../shared/state/records.ts'
import { mayHoldRequest, rewriteMessages } from './event-messages.ts'
import { isObject, type RequestId } from './json-rpc.ts'

const RELAYED = /^asked-([0-9a-f]{64})-(.+)$/s

/** An event for the client: requests in it, and cancellations of requests, have the ids that the client gets. */
export function withRelayedIds(
  event: Uint8Array,
  signer: UrlSigner,
  key: SessionKey,
): Uint8Array | undefined {
  if (!mayHoldRequest(event)) return event
  return rewriteMessages(event, (message) => {
    const { method, id, params } = message
    if (typeof method !== 'string') return message
    if (isId(id)) return { ...message, id: relayedId(id, signer, key) }
    if (method !== 'notifications/cancelled' || !isObject(params)) return message
    const { requestId } = params
    if (!isId(requestId)) return message
    return { ...message, params: { ...params, requestId: relayedId(requestId, signer, key) } }
  })
}

/** The upstream's own id of a request that the client answers; undefined for one that it was not asked. */
export function originalId(
  id: RequestId | null,
  signer: UrlSigner,
  key: SessionKey,
): RequestId | undefined {
  const [, signature = '', text = ''] = RELAYED.exec(String(id)) ?? []
  if (text === '' || !signer.isSigned(fieldsOf(text, key), signature)) return undefined
  // Only what `relayedId` wrote has our signature.
  const original: RequestId = JSON.parse(text)
  return original
}

function relayedId(id: RequestId, signer: UrlSigner, key: SessionKey): string {
  const text = JSON.stringify(id)
  return `asked-${signer.sign(fieldsOf(text, key))}-${text}`
}

function fieldsOf(text: string, { serverId, sessionId }: SessionKey): readonly string[] {
  return ['mcp-relayed-id-v1', serverId, sessionId, text]
}

function isId(id: unknown): id is RequestId {
  return typeof id === 'string' || typeof id === 'number'
}
