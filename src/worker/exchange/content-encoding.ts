/** How the body of a message may be encoded: not at all. */
import { AdapterError } from '../../shared/errors.ts'
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'

/** Throws ADAPTER_UNSUPPORTED_MEDIA_TYPE for a body that is compressed. */
export function refuseEncoding(headers: HeaderList): void {
  const encoding = headerValue(headers, 'content-encoding')
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new AdapterError(
      'ADAPTER_UNSUPPORTED_MEDIA_TYPE',
      'content-encoding is not supported: send the JSON as it is',
    )
  }
}
