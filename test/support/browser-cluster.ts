/** A cluster in front of a real browser whose streams replicas hold, with a recorder between the two, and a file server for clients that make load. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Test } from 'tap'

import { shortId } from '../../src/shared/redaction.ts'
import { startCluster } from './cluster.ts'
import type { Cluster, ClusterReplica } from './cluster.ts'
import { eventually } from './eventually.ts'
import { startRecordingProxy } from './recording-proxy.ts'
import type { RecordingProxy } from './recording-proxy.ts'
import { fileServerSection, startFileServer } from './upstreams/file-server.ts'
import type { FileServer } from './upstreams/file-server.ts'
import { playwrightServer, startPlaywright } from './upstreams/playwright.ts'
import { answerIn, WireSession } from './wire.ts'

/** See the file comment. Ended when the test ends. */
export interface BrowserCluster {
  readonly cluster: Cluster
  /** Sees what the replicas ask of the browser's server. */
  readonly recorder: RecordingProxy
  readonly files: FileServer
}

/** Starts it; resolves when each replica knows the others. `playwrightEnv`: environment of the browser's server. */
export async function startBrowserCluster(
  t: Test,
  playwrightEnv: Readonly<Record<string, string>> = {},
): Promise<BrowserCluster> {
  const directory = await mkdtemp(join(tmpdir(), 'adapter-browsers-'))
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const playwright = await startPlaywright(directory, { env: playwrightEnv })
  t.teardown(() => playwright.stop())
  const files = await startFileServer({ workspace: directory })
  t.teardown(() => files.stop())
  const recorder = await startRecordingProxy(t, playwright.url)
  const cluster = await startCluster(t, {
    withProxy: true,
    root: join(directory, 'shared'),
    sections: { uploads: { ttl_seconds: 600 } },
    servers: () => [
      // Held by a replica all the time, whatever the client does: first by the one that the session was opened on.
      playwrightServer(recorder.url, directory, { hold_stream: true }),
      fileServerSection(files.url, directory),
    ],
  })
  await assembled(cluster)
  return { cluster, recorder, files }
}

/** Waits until each replica counts all of them: one that the others never saw is missed only when its lease ends. */
export async function assembled(cluster: Cluster): Promise<void> {
  const everyone = `"replicas_count":${cluster.replicas.length}`
  for (const { url, index } of cluster.replicas) {
    await eventually(`replica ${index + 1} knows the others`, async () =>
      (await (await fetch(`${url}/healthz`)).text()).includes(everyone),
    )
  }
}

/** Opens a session with a browser on this replica, which holds its stream from then on. */
export function openBrowser(replica: ClusterReplica): Promise<WireSession> {
  return WireSession.open(`${replica.url}/mcp/playwright`)
}

/** Calls a tool through the cluster's one address; answers the text of its result. */
export async function callOn(
  session: WireSession,
  cluster: Cluster,
  name: string,
  args: Readonly<Record<string, unknown>>,
): Promise<string> {
  const through = new WireSession(`${cluster.url}/mcp/playwright`, session.id, session.version)
  const answer = answerIn(await through.call(name, args))
  return JSON.stringify(answer.result?.['content'] ?? answer)
}

/** How often this replica has taken over the stream of this session, by its log. */
export function takeoversOf(replica: ClusterReplica, session: WireSession): number {
  const marks = [`"session":"${shortId(session.id)}"`, '"msg":"stream taken over"']
  return replica
    .logs()
    .split('\n')
    .filter((line) => marks.every((mark) => line.includes(mark))).length
}

/** How long the replicas say that their part of each takeover lasted, in milliseconds. */
export function takeoverTimes(cluster: Cluster): number[] {
  const lines = cluster.logs().matchAll(/"ms":(\d+),"msg":"stream taken over"/g)
  return [...lines].map(([, ms]) => Number(ms))
}
