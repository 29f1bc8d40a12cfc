/**
 * The frames between the primary and a worker. A frame is a labelled tuple: `frame[0]` tells its kind and narrows the rest.
 *
 * Requests are numbered by the primary, per worker. Ownership: bytes in a frame belong to the receiver; `FrameChannel` copies small ones and
 * transfers large ones, so a sender must not touch a buffer after `send`.
 */

/** Header names (lower case) and values in turn: name, value, name, value. */
export type HeaderList = readonly string[]

/** What a request is for; the primary knows paths, the worker knows MCP. `sse` and `messages` are those of legacy clients. */
export type RouteKind = 'mcp' | 'sse' | 'messages' | 'upload' | 'artifact'

/**
 * Primary → worker. Order for one request: `request.head`, then, unless `complete`, any number of `request.body` and one `request.end`.
 * `request.abort` may come at any time and ends the exchange: no frame about it follows in this direction.
 */
export type ToWorkerFrame =
  | readonly [
      kind: 'request.head',
      requestId: number,
      route: RouteKind,
      /** Index into `config.servers`, or -1 when the path names no configured server. */
      serverIndex: number,
      method: string,
      /** Path and query as received. */
      target: string,
      headers: HeaderList,
      /** The whole body when `complete`, else null. A string holds ASCII only. */
      body: Uint8Array | string | null,
      complete: boolean,
      /** Who asks; empty while authentication is off, and where a signed URL decides. */
      principal: string,
    ]
  | readonly [kind: 'request.body', requestId: number, chunk: Uint8Array]
  | readonly [kind: 'request.end', requestId: number]
  | readonly [kind: 'request.abort', requestId: number]
  /** The client reads slowly: send no more `response.body` until `flow.resume`. What is under way still arrives. */
  | readonly [kind: 'flow.pause', requestId: number]
  | readonly [kind: 'flow.resume', requestId: number]
  /** This many bytes of `response.body` have arrived: they do not count as under way any more. */
  | readonly [kind: 'flow.acknowledge', requestId: number, bytes: number]
  /** Close long-lived streams, so that their clients go elsewhere; requests still come. */
  | readonly [kind: 'control.drain']
  /** Finish what runs within `graceMs`, then exit. */
  | readonly [kind: 'control.stop', graceMs: number]

/**
 * Worker → primary. Order for one request: `response.head`, then, unless `complete`, any number of `response.body` and one `response.end` or
 * `response.reset`; or one `response.file` alone.
 */
export type ToPrimaryFrame =
  | readonly [
      kind: 'response.head',
      requestId: number,
      status: number,
      headers: HeaderList,
      /** The whole body when `complete`, else a first piece or null. */
      body: Uint8Array | string | null,
      complete: boolean,
    ]
  | readonly [kind: 'response.body', requestId: number, chunk: Uint8Array]
  | readonly [kind: 'response.end', requestId: number]
  /** The answer can't be completed: cut the connection so that the client sees it. */
  | readonly [kind: 'response.reset', requestId: number]
  /** Send `length` bytes of an open file from `start`; the primary owns and closes `fd`. `headOnly`: send the headers with that length alone. */
  | readonly [
      kind: 'response.file',
      requestId: number,
      status: number,
      headers: HeaderList,
      fd: number,
      start: number,
      length: number,
      headOnly: boolean,
    ]
  /** The worker is behind: stop reading this request's body until `flow.resume`. */
  | readonly [kind: 'flow.pause', requestId: number]
  | readonly [kind: 'flow.resume', requestId: number]
  /** This many bytes of `request.body` have been taken in. */
  | readonly [kind: 'flow.acknowledge', requestId: number, bytes: number]
  | readonly [kind: 'control.ready']
  | readonly [kind: 'control.failed', message: string]
