/** Responses that come on a resumed stream after the replica that had the call is gone. */
import t from 'tap'

import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintSessionId } from '../../src/shared/ids.ts'
import type { AdapterServices } from '../../src/worker/adapters/adapter.ts'
import { orphanRewrite } from '../../src/worker/exchange/orphaned-response.ts'
import type { PendingRewrite } from '../../src/worker/session/session.ts'
import { load } from '../shared/config-loading.ts'

const key = { serverId: 'srv', sessionId: mintSessionId() }
const place = `/shared/sessions/srv/${key.sessionId}/artifacts/x/shot.png`

/** What is done about a response of a server that is configured so. */
function rewriteOf(fields: string, list?: PendingRewrite) {
  const config = load(`servers:
  - {id: srv, mount_path: /a, upstream: {url: "http://u/mcp"}, ${fields}}`)
  const [server] = config.servers
  if (server === undefined) throw new Error('no server')
  const files = new FileStore({ root: '/shared', atomicWrites: false })
  // The parts that are used.
  const services = { config, files } as unknown as AdapterServices
  return orphanRewrite({ server, services, key, list })
}

const PRODUCER =
  'adapters: [{type: artifact_producer, tools: [shoot], output_path_argument: filename}]'

function response(result: unknown) {
  return { jsonrpc: '2.0', id: 1, result }
}

t.test('a file that nobody kept is not passed off as delivered', async (t) => {
  const text = response({ content: [{ type: 'text', text: `Saved to ${place}` }] })
  const rewritten = await rewriteOf(PRODUCER)?.rewrite(text)
  t.match(rewritten, { id: 1, result: { isError: true } })
  t.match(JSON.stringify(rewritten), 'Call the tool again')
  const structured = response({ content: [], structuredContent: { path: place } })
  t.match(await rewriteOf(PRODUCER)?.rewrite(structured), { result: { isError: true } })
})

t.test('every other response stays as it is', async (t) => {
  const rewrite = rewriteOf(PRODUCER)
  for (const message of [
    response({ content: [{ type: 'text', text: 'Saved to /tmp/elsewhere' }] }),
    response({ content: [{ type: 'text', text: place.replace(key.sessionId, 'other') }] }),
    response({ tools: [{ name: 'shoot' }] }),
    response({ anything: place }),
    { jsonrpc: '2.0', id: 1, error: { code: 1, message: place } },
  ])
    t.equal(await rewrite?.rewrite(message), message)
})

t.test('a list of tools gets what every list gets', async (t) => {
  const list = response({ tools: [{ name: 'kept' }, { name: 'secret' }] })
  const rewrite = { rewrite: async () => response({ tools: [] }), abandon: () => {} }
  t.strictSame(await rewriteOf('', rewrite)?.rewrite(list), response({ tools: [] }))
  const other = response({ resources: [] })
  t.equal(await rewriteOf('', rewrite)?.rewrite(other), other, 'and what is no list stays')
})

t.test('a server that nothing is done for needs none', async (t) => {
  t.equal(rewriteOf('disabled_tools: []'), undefined)
})
