/** HTTP status lines as uWebSockets.js wants them. */
import { STATUS_CODES } from 'node:http'

/** `200` becomes `200 OK`. */
export function statusLine(status: number): string {
  return `${status} ${STATUS_CODES[status] ?? 'Status'}`
}
