/** How the body of a message may be encoded: not at all, where it is looked at. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'

/** Whether a body says that it is compressed. */
export function isEncoded(headers: HeaderList): boolean {
  const encoding = headerValue(headers, 'content-encoding')
  return encoding !== undefined && encoding.toLowerCase() !== 'identity'
}

/** Whether a body says that it is in another charset than UTF-8, in any of the ways to say so. MCP allows no other, but some clients go by it. */
export function isInOtherCharset(headers: HeaderList): boolean {
  const type = headerValue(headers, 'content-type')?.toLowerCase() ?? ''
  if (!type.includes('charset')) return false
  const named = [...type.matchAll(/charset[^=;]*=\s*"?([^";]*)/g)].map(([, name = '']) =>
    name.trim(),
  )
  return named.some((name) => name !== 'utf-8' && name !== 'utf8' && name !== 'us-ascii')
}

/** Throws ADAPTER_UNSUPPORTED_MEDIA_TYPE for a body that is compressed. */
export function refuseEncoding(headers: HeaderList): void {
  if (isEncoded(headers)) {
    throw new AdapterError(
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
      'content-encoding is not supported: send the JSON as it is',
    )
  }
}
