// The adapter as a conformance target: one replica with the upstream mounted, nothing else configured.

import { startReplica } from '../support/replica.ts'
import type { StartTarget } from './target.ts'

const mountPath = '/mcp/conformance'

/** Starts a replica in front of the upstream. */
export const startTarget: StartTarget = async (upstreamUrl) => {
  const config = {
    servers: [{ id: 'conformance', mount_path: mountPath, upstream: { url: upstreamUrl } }],
  }
  const replica = await startReplica({ config })
  return {
    url: new URL(mountPath, replica.url).href,
    stop: async () => void (await replica.stop()),
  }
}
