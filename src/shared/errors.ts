/** The error catalogue: every error that the adapter itself answers with, its stable code, HTTP status and JSON-RPC code. */

/** One catalogue entry. `rpcCode` is a JSON-RPC standard code, or positive: revision 2026-07-28 keeps -32768…-32000 for itself. */
interface ErrorSpec {
  readonly status: number
  readonly rpcCode: number
  /** Whether the same request can succeed later without a change. */
  readonly retryable: boolean
}

/** Codes are stable: they appear in answers and in docs/errors.md, which a test compares with this table. */
export const ERRORS = {
  // admission
  ADAPTER_ROUTE_UNKNOWN: { status: 404, rpcCode: 1404, retryable: false },
  ADAPTER_METHOD_NOT_ALLOWED: { status: 405, rpcCode: 1405, retryable: false },
  ADAPTER_NOT_ACCEPTABLE: { status: 406, rpcCode: 1406, retryable: false },
  ADAPTER_UNSUPPORTED_MEDIA_TYPE: { status: 415, rpcCode: 1415, retryable: false },
  ADAPTER_REQUEST_TOO_SLOW: { status: 408, rpcCode: 1408, retryable: true },
  ADAPTER_MESSAGE_TOO_LARGE: { status: 413, rpcCode: 1413, retryable: false },
  ADAPTER_HEADER_INVALID: { status: 400, rpcCode: -32600, retryable: false },
  ADAPTER_CLIENT_HEADER_MISSING: { status: 400, rpcCode: -32600, retryable: false },
  ADAPTER_HOST_REFUSED: { status: 403, rpcCode: 1403, retryable: false },
  ADAPTER_ORIGIN_REFUSED: { status: 403, rpcCode: 1403, retryable: false },
  ADAPTER_UNAUTHORIZED: { status: 401, rpcCode: 1401, retryable: false },
  ADAPTER_SCOPE_MISSING: { status: 403, rpcCode: 1403, retryable: false },
  ADAPTER_KEYS_UNAVAILABLE: { status: 503, rpcCode: 1503, retryable: true },
  ADAPTER_RATE_LIMIT: { status: 429, rpcCode: 1429, retryable: true },
  ADAPTER_OVERLOADED: { status: 503, rpcCode: 1503, retryable: true },
  ADAPTER_STOPPING: { status: 503, rpcCode: 1503, retryable: true },
  ADAPTER_INTERNAL: { status: 500, rpcCode: -32603, retryable: true },
  ADAPTER_STATE_UNAVAILABLE: { status: 503, rpcCode: 1503, retryable: true },
  // protocol
  ADAPTER_PARSE_ERROR: { status: 400, rpcCode: -32700, retryable: false },
  ADAPTER_INVALID_REQUEST: { status: 400, rpcCode: -32600, retryable: false },
  ADAPTER_INVALID_PARAMS: { status: 400, rpcCode: -32602, retryable: false },
  ADAPTER_HEADER_MISMATCH: { status: 400, rpcCode: -32020, retryable: false },
  ADAPTER_TOOLS_CHANGED: { status: 200, rpcCode: 1409, retryable: false },
  ADAPTER_ERA_UNSUPPORTED: { status: 200, rpcCode: 1501, retryable: false },
  // sessions
  ADAPTER_SESSION_REQUIRED: { status: 400, rpcCode: -32600, retryable: false },
  ADAPTER_SESSION_UNKNOWN: { status: 404, rpcCode: -32001, retryable: false },
  ADAPTER_SESSION_LIMIT: { status: 429, rpcCode: 1429, retryable: true },
  ADAPTER_IN_FLIGHT_LIMIT: { status: 429, rpcCode: 1429, retryable: true },
  // upstream
  ADAPTER_UPSTREAM_UNREACHABLE: { status: 502, rpcCode: 1502, retryable: true },
  ADAPTER_UPSTREAM_TIMEOUT: { status: 504, rpcCode: 1504, retryable: true },
  ADAPTER_PROCESS_LIMIT: { status: 503, rpcCode: 1503, retryable: true },
  ADAPTER_UPSTREAM_INVALID: { status: 502, rpcCode: 1502, retryable: false },
  ADAPTER_UPSTREAM_REFUSED: { status: 502, rpcCode: 1502, retryable: false },
  ADAPTER_UPSTREAM_DOWN: { status: 503, rpcCode: 1503, retryable: true },
  ADAPTER_UPSTREAM_BUSY: { status: 503, rpcCode: 1503, retryable: true },
  // uploads
  ADAPTER_UPLOAD_TICKET_INVALID: { status: 403, rpcCode: 1403, retryable: false },
  ADAPTER_UPLOAD_TICKET_EXPIRED: { status: 403, rpcCode: 1403, retryable: false },
  ADAPTER_UPLOAD_TICKET_USED: { status: 410, rpcCode: 1410, retryable: false },
  ADAPTER_UPLOAD_MALFORMED: { status: 400, rpcCode: 1400, retryable: false },
  ADAPTER_UPLOAD_DIGEST_REQUIRED: { status: 400, rpcCode: 1400, retryable: false },
  ADAPTER_UPLOAD_DIGEST_MISMATCH: { status: 422, rpcCode: 1422, retryable: true },
  ADAPTER_UPLOAD_TOO_LARGE: { status: 413, rpcCode: 1413, retryable: false },
  ADAPTER_UPLOAD_INCOMPLETE: { status: 400, rpcCode: 1400, retryable: true },
  ADAPTER_UPLOADS_DISABLED: { status: 403, rpcCode: 1403, retryable: false },
  ADAPTER_SESSION_QUOTA: { status: 507, rpcCode: 1507, retryable: false },
  ADAPTER_GLOBAL_QUOTA: { status: 507, rpcCode: 1507, retryable: true },
  ADAPTER_STORAGE_FAILED: { status: 500, rpcCode: -32603, retryable: true },
  // downloads
  ADAPTER_ARTIFACT_UNKNOWN: { status: 404, rpcCode: 1404, retryable: false },
  ADAPTER_DOWNLOAD_REFUSED: { status: 403, rpcCode: 1403, retryable: false },
} as const satisfies Readonly<Record<string, ErrorSpec>>

/** A stable error code. */
export type ErrorCode = keyof typeof ERRORS

/** An error that can be answered to a client: the message says what, where and what to do, and never holds a secret. */
export class AdapterError extends Error {
  override readonly name = 'AdapterError'
  readonly code: ErrorCode
  readonly data: Readonly<Record<string, unknown>> | undefined
  /** Before that, a retry is in vain; undefined when it is not known. */
  readonly retryAfterSeconds: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      cause?: unknown
      data?: Readonly<Record<string, unknown>>
      retryAfterSeconds?: number
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.data = options.data
    this.retryAfterSeconds = options.retryAfterSeconds
  }

  get status(): number {
    return ERRORS[this.code].status
  }

  get rpcCode(): number {
    return ERRORS[this.code].rpcCode
  }

  /** The body on routes that speak JSON-RPC. `requestId` is the id of the request, or null when it is not known. */
  toJsonRpc(requestId: string | number | null): string {
    return JSON.stringify({
      jsonrpc: '2.0',
      id: requestId,
      error: {
        code: this.rpcCode,
        message: this.message,
        data: { code: this.code, retryable: ERRORS[this.code].retryable, ...this.data },
      },
    })
  }

  /** The body on plain HTTP routes (uploads, downloads). */
  toJson(): string {
    return JSON.stringify({ error: this.code, detail: this.message, ...this.data })
  }
}

/** The state store failed or did not answer. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError'
}
