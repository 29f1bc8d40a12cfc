/**
 * The same client walk (call, progress, cancellation, elicitation, upload, artifact, reconnect) over each transport of upstreams: directly, which shows
 * that the walk is the server's; through one node; and through three replicas, of which each request of the client's takes the next.
 */
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import { startReplica } from '../support/replica.ts'
import { walk } from '../support/transport-walk.ts'
import { WALK_HOSTS } from '../support/upstreams/walk/walk-hosts.ts'

t.setTimeout(240_000)

/** Transports of upstreams that the adapter has. */
const ADAPTED = [
  'streamable_http',
  'sse',
  'stdio',
] as const satisfies readonly (keyof typeof WALK_HOSTS)[]

function section(upstream: object): object {
  return {
    id: 'walk',
    mount_path: '/mcp/walk',
    upstream,
    adapters: [
      { type: 'upload_consumer', tools: ['read'], file_path_argument: 'path' },
      { type: 'artifact_producer', tools: ['write'], output_path_argument: 'path' },
    ],
  }
}

/** A client's transport whose requests go to one origin after the other. */
function transportTo(origins: readonly string[], sessionId?: string): Transport {
  let count = 0
  return new StreamableHTTPClientTransport(new URL(`${origins[0]}/mcp/walk`), {
    ...(sessionId === undefined ? {} : { sessionId }),
    fetch: (url, init) => {
      const { pathname } = new URL(url)
      return fetch(`${origins[count++ % origins.length]}${pathname}`, init)
    },
  })
}

function wayTo(origins: readonly string[]) {
  return {
    movesFiles: true,
    connect: () => transportTo(origins),
    reconnect: ({ sessionId }: Transport) => transportTo(origins, sessionId),
  }
}

for (const [name, start] of Object.entries(WALK_HOSTS)) {
  t.test(`the walk works on ${name} without the adapter`, async (t) => {
    const host = await start()
    t.teardown(() => host.stop())
    await walk(t, { movesFiles: false, connect: () => host.direct() })
  })
}

for (const name of ADAPTED) {
  t.test(`the walk works on ${name} through one node`, async (t) => {
    const host = await WALK_HOSTS[name]()
    const replica = await startReplica({
      config: {
        core: { workers: 2, allow_artifacts_download: true },
        servers: [section(host.upstream)],
      },
    })
    t.teardown(async () => {
      if (!t.passing()) t.comment(replica.logs())
      await replica.stop()
      await host.stop()
    })
    await walk(t, wayTo([replica.url]))
  })

  t.test(`the walk works on ${name} through three replicas`, async (t) => {
    const host = await WALK_HOSTS[name]()
    t.teardown(() => host.stop())
    const cluster = await startCluster(t, { servers: () => [section(host.upstream)] })
    await walk(t, wayTo(cluster.replicas.map(({ url }) => url)))
  })
}
