/** Which id of a request decides where it goes. */
import type { ReadHeaders } from '../admission/headers.ts'
import type { Route } from '../routes.ts'

/** What says which worker has to do with a request: the id of a session, or of a legacy client's stream; empty where any may serve. */
export function ownedId(route: Route, query: string, headers: ReadHeaders): string {
  switch (route.kind) {
    case 'artifact':
      return route.sessionId
    case 'upload':
      // Its signature is checked by the worker.
      return /(?:^|&)mcp_upload_session=([A-Za-z0-9_-]*)/.exec(query)?.[1] ?? ''
    case 'messages':
      return /(?:^|&)sessionId=([A-Za-z0-9_.-]*)/.exec(query)?.[1] ?? ''
    case 'mcp':
      return headers.sessionId
    case 'sse':
    case 'health':
    case 'metadata':
    case 'metrics':
    case 'none':
      return ''
  }
}
