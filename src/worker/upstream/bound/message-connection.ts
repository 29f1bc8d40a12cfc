/**
 * What a transport that is bound to a connection offers: JSON-RPC messages in both directions, and the news that it is over. stdio and the legacy SSE
 * transport implement it; `BoundUpstream` makes an `Upstream` of it, so that the rest of the adapter sees Streamable HTTP only.
 */
import type { AdapterError } from '../../../shared/errors.ts'
import type { HeaderList } from '../../../shared/frames/frames.ts'

/** Receives what a connection brings. After `closed` nothing is called. */
export interface MessageListener {
  /** One JSON-RPC message as the upstream wrote it: UTF-8, no line breaks added or removed, not validated. Belongs to the receiver. */
  message(bytes: Uint8Array): void
  /** Once: the upstream, or the way to it, is gone. Not called after `close`. */
  closed(error: AdapterError): void
}

/** An open connection to one upstream. */
export interface MessageConnection {
  /**
   * Sends one JSON-RPC message. Resolves when the transport has taken it (which is not that the upstream has handled it), rejects with `AdapterError` when it
   * can't be delivered. `headers` are those of the client's request that go upstream; transports without headers ignore them.
   */
  send(message: Uint8Array, headers: HeaderList): Promise<void>
  /** Stops reading until `resume`; a bounded amount still arrives. */
  pause(): void
  resume(): void
  /** Ends the connection and what stands behind it (a process). Never rejects; bounded. */
  close(): Promise<void>
}

/** Opens connections to one upstream server. */
export interface MessageTransport {
  /** Resolves when messages can be sent. Rejects with `AdapterError` when that fails or `signal` aborts; then nothing is left behind. */
  open(
    listener: MessageListener,
    headers: HeaderList,
    signal: AbortSignal,
  ): Promise<MessageConnection>
  /** Ends all connections. */
  close(): Promise<void>
}
