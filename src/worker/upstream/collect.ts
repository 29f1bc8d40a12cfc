/** Requests of the adapter's own to an upstream (initialise again, end a session, cancel): small, bounded, answered whole. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import type { Upstream, UpstreamCall, UpstreamRequest } from './upstream.ts'

/** An answer taken whole. */
export interface CollectedAnswer {
  readonly status: number
  readonly headers: HeaderList
  readonly body: Uint8Array
}

/** Sends a request and takes its answer, whole or until `isEnough`. Rejects with `AdapterError` on failure, after `timeoutMs`, or beyond `maxBytes`. */
export function collectAnswer(
  upstream: Upstream,
  request: UpstreamRequest,
  limits: {
    readonly timeoutMs: number
    readonly maxBytes: number
    /** Looks at each piece; once it answers true, the rest is not waited for. */
    readonly isEnough?: (headers: HeaderList, chunk: Uint8Array) => boolean
  },
): Promise<CollectedAnswer> {
  return new Promise((resolve, reject) => {
    let status = 0
    let headers: HeaderList = []
    let size = 0
    const parts: Uint8Array[] = []
    let call: UpstreamCall | undefined
    const timer = setTimeout(() => {
      call?.abort(limits.timeoutMs)
      reject(
        new AdapterError(
          'ADAPTER_UPSTREAM_TIMEOUT',
          `the upstream server did not answer within ${limits.timeoutMs / 1_000} s`,
        ),
      )
    }, limits.timeoutMs)
    call = upstream.call(request, {
      head: (gotStatus, gotHeaders) => {
        status = gotStatus
        headers = gotHeaders
      },
      data: (chunk) => {
        size += chunk.byteLength
        if (size <= limits.maxBytes) {
          parts.push(new Uint8Array(chunk))
          if (limits.isEnough?.(headers, chunk) !== true) return
          clearTimeout(timer)
          call?.abort()
          resolve({ status, headers, body: Buffer.concat(parts) })
          return
        }
        clearTimeout(timer)
        call?.abort()
        reject(
          new AdapterError(
            'ADAPTER_UPSTREAM_INVALID',
            `the upstream server's answer is larger than ${limits.maxBytes} bytes`,
          ),
        )
      },
      end: () => {
        clearTimeout(timer)
        resolve({ status, headers, body: Buffer.concat(parts) })
      },
      error: (error) => {
        clearTimeout(timer)
        reject(error)
      },
    })
  })
}
