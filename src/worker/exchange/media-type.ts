/** What an answer is, by its `Content-Type`. */
import type { HeaderList } from '../../shared/frames/frames.ts'
import { headerValue } from '../../shared/frames/header-list.ts'

/** Whether the media type is that of an event stream. */
export function isEventStream(headers: HeaderList): boolean {
  return contentType(headers).startsWith('text/event-stream')
}

/** Whether the media type is JSON. */
export function isJson(headers: HeaderList): boolean {
  return contentType(headers).startsWith('application/json')
}

function contentType(headers: HeaderList): string {
  return headerValue(headers, 'content-type')?.toLowerCase() ?? ''
}
