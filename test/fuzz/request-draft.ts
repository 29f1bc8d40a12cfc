/** A request as its parts, and its bytes. What is wrong with the parts is in the bytes, too: nothing is corrected on the way. */
import type { Random } from './random.ts'

/** How the end of the body is said. */
export type Framing = 'length' | 'chunked' | 'none'

/** See the file comment. All text is latin-1, a character for a byte. */
export interface RequestDraft {
  method: string
  target: string
  version: string
  headers: [name: string, value: string][]
  body: Buffer
  framing: Framing
}

/** The bytes of a request. A chunked body comes in chunks of random sizes, some with extensions, some with trailers. */
export function bytesOf(draft: RequestDraft, random: Random): Buffer {
  const lines = draft.headers.map(([name, value]) => `${name}: ${value}\r\n`)
  if (draft.framing === 'length') lines.push(`Content-Length: ${draft.body.byteLength}\r\n`)
  if (draft.framing === 'chunked') lines.push('Transfer-Encoding: chunked\r\n')
  const head = `${draft.method} ${draft.target} ${draft.version}\r\n${lines.join('')}\r\n`
  const body =
    draft.framing === 'chunked'
      ? chunked(draft.body, random)
      : draft.framing === 'length'
        ? draft.body
        : Buffer.alloc(0)
  return Buffer.concat([Buffer.from(head, 'latin1'), body])
}

function chunked(body: Buffer, random: Random): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < body.byteLength;) {
    const size = Math.min(body.byteLength - at, random.pick([1, 2, 16, 100, 4_096, 65_536]))
    // A request of many one-byte chunks says nothing that fifty don't.
    const length = parts.length > 150 ? body.byteLength - at : size
    const digits = length.toString(16)
    const line = random.chance(0.1) ? `000${digits.toUpperCase()}` : digits
    parts.push(Buffer.from(`${line}\r\n`), body.subarray(at, at + length), Buffer.from('\r\n'))
    at += length
  }
  parts.push(Buffer.from('0\r\n\r\n'))
  return Buffer.concat(parts)
}
