/** Status lines and headers as uWebSockets.js wants them. */
import { STATUS_CODES } from 'node:http'

import type { HeaderList } from '../../shared/frames/frames.ts'
import type { HttpResponse } from './native.ts'

/** Writes status and headers. Call it inside `cork`, before the first piece of the body. */
export function writeHead(res: HttpResponse, status: number, headers: HeaderList): void {
  res.writeStatus(`${status} ${STATUS_CODES[status] ?? 'Status'}`)
  for (let i = 0; i + 1 < headers.length; i += 2)
    res.writeHeader(headers[i] ?? '', headers[i + 1] ?? '')
}
