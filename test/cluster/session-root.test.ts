/** Upstreams with the session's directory for their root, through several replicas: whichever reads the request for roots answers it. */
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { startRootsServer } from '../support/upstreams/roots-server.ts'
import { answerIn, messagesIn, WireSession } from '../support/wire.ts'

t.setTimeout(180_000)

const upstream = await startRootsServer()
t.teardown(() => upstream.stop())
const cluster = await startCluster(t, {
  replicas: 2,
  servers: () => [
    {
      id: 'rooted',
      mount_path: '/mcp/rooted',
      upstream: { url: upstream.url, session_root: { enabled: true } },
      adapters: [
        { type: 'artifact_producer', tools: ['write'], output_locator: { mode: 'directory' } },
      ],
    },
  ],
})

/** A session that is opened on one replica, as seen through each. */
async function openOn(index: number): Promise<readonly WireSession[]> {
  const opened = await WireSession.open(`${replica(index).url}/mcp/rooted`)
  return cluster.replicas.map(
    ({ url }) => new WireSession(`${url}/mcp/rooted`, opened.id, opened.version),
  )
}

function replica(index: number) {
  const found = cluster.replicas[index]
  if (found === undefined) throw new RangeError(`no replica ${index}`)
  return found
}

async function textOf(session: WireSession | undefined, tool: string, args = {}): Promise<string> {
  const answer = session && answerIn(await session.call(tool, args))
  return JSON.stringify(answer?.result)
}

t.test('the first call finds the stream standing, on whatever replica it comes', async (t) => {
  for (const index of [0, 1]) {
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const [first, second] = await openOn(index)
    const uri = pathToFileURL(join(cluster.root, 'sessions', 'rooted', first?.id ?? '')).href
    for (const session of index === 0 ? [second, first] : [first, second]) {
      for (const tool of ['where_by_stream', 'where_by_call']) {
        // oxlint-disable-next-line no-await-in-loop -- one case after the other
        t.match(await textOf(session, tool), uri, `${tool}, opened on ${index}`)
      }
    }
  }
})

t.test('a question that one replica passed on is answered through the other', async (t) => {
  const [first, second] = await openOn(0)
  if (first === undefined || second === undefined) throw new Error('there are two replicas')
  const asking = await first.stream(first.message('tools/call', { name: 'ask', arguments: {} }))
  await asking.until('elicitation/create')
  const { id } = messagesIn(asking.text()).find(({ method }) => method !== undefined) ?? {}
  const result = { action: 'accept', content: { name: 'Ada' } }
  await second.post({ jsonrpc: '2.0', id: 0, result: { action: 'cancel' } })
  await second.post({ jsonrpc: '2.0', id, result })
  await asking.until('"result"')
  t.match(asking.text(), 'Ada')
})

t.test('when the holder of the stream is killed, another answers', async (t) => {
  const [first, second] = await openOn(0)
  const before = await textOf(first, 'where_by_stream')
  const streams = upstream.streams
  await replica(0).kill()
  await eventually('the other replica has the stream', () => upstream.streams > streams)
  t.equal(await textOf(second, 'where_by_stream'), before)
  const written = await textOf(second, 'write', { files: { 'a.txt': 'after' } })
  t.match(written, '"filename":"a.txt"', 'and files become artifacts there')
  await replica(0).start()
  t.equal(await textOf(first, 'where_by_stream'), before, 'through whichever replica')
})

t.test(
  'an upstream session that is lost on one replica is told its root through another',
  async (t) => {
    const [first, second] = await openOn(0)
    const before = await textOf(first, 'where_by_stream')
    await upstream.drop()
    t.equal(await textOf(second, 'where_by_stream'), before)
    t.equal(await textOf(first, 'where_by_stream'), before)
  },
)
