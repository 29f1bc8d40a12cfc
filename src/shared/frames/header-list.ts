/** Looking into lists of headers. */
import type { HeaderList } from './frames.ts'

/** First value of a header by lower-case name. */
export function headerValue(headers: HeaderList, name: string): string | undefined {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1]
  return undefined
}
