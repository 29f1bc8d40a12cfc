/** How the exchange and the adapters meet: what an adapter gets, and what it gives back. An adapter never sees a connection. */
import type { Config, ServerConfig } from '../../shared/config/config.ts'
import type { FileStore } from '../../shared/files/file-store.ts'
import type { UrlSigner } from '../../shared/signing.ts'
import type { JsonObject, SessionKey } from '../../shared/state/records.ts'
import type { StateStore } from '../../shared/state/store.ts'
import type { DigestPool } from '../files/digest-pool.ts'

/** What every adapter may use. One per worker. */
export interface AdapterServices {
  readonly config: Config
  readonly store: StateStore
  readonly files: FileStore
  readonly signer: UrlSigner
  readonly digests: DigestPool
  /** Hears of every upload URL that is given out. */
  readonly onUploadUrl?: ((serverId: string) => void) | undefined
}

/** Where a call happens. */
export interface CallContext {
  readonly services: AdapterServices
  readonly server: ServerConfig
  readonly key: SessionKey
  /** Absolute URL prefix of this adapter as the client reaches it, without a trailing slash. */
  readonly baseUrl: string
}

/** A `tools/call` that an adapter changed. */
export interface PreparedCall {
  /** Request params to send upstream in place of the client's. */
  readonly params: JsonObject
  /**
   * Turns the upstream's `CallToolResult` into the client's. Called at most once, and never for a JSON-RPC error. Never throws for what the upstream
   * did: that becomes a result with `isError`.
   */
  finish(result: JsonObject): Promise<FinishedCall>
  /** The call ended without a result (JSON-RPC error, disconnect for good): gives back what was set aside. */
  abandon(): Promise<void>
}

export interface FinishedCall {
  readonly result: JsonObject
  /** True when the session's artifact list changed. */
  readonly artifactsChanged: boolean
}

/** An adapter's answer to a call: go on with changed params, with or without a look at the result, or stop with this tool result (`isError`). */
export type Preparation =
  | { readonly kind: 'call'; readonly call: PreparedCall }
  | { readonly kind: 'params'; readonly params: JsonObject }
  | { readonly kind: 'result'; readonly result: JsonObject }

/** A `CallToolResult` that tells the model what went wrong and what to do. */
export function toolError(text: string): JsonObject {
  return { content: [{ type: 'text', text }], isError: true }
}
