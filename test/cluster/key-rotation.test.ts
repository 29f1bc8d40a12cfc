/** Replicas in the middle of a change of keys: what one signs is good at the other, once, and dead with its session. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import type { ClusterReplica } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { fileServerSection, startFileServer } from '../support/upstreams/file-server.ts'
import { WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const KEYS = ['the key of last year', 'the key of this year', 'a key that nobody else knows']

const workspace = await mkdtemp(join(tmpdir(), 'adapter-keys-'))
const upstream = await startFileServer({ workspace })
t.teardown(async () => {
  await upstream.stop()
  await rm(workspace, { recursive: true, force: true })
})
const cluster = await startCluster(t, {
  servers: () => [fileServerSection(upstream.url, workspace)],
  core: { auth: { signing_secret: ['${FIRST_KEY}', '${SECOND_KEY}'] } },
  // The third knows the old one no more.
  env: (index) => ({
    FIRST_KEY: KEYS[index] ?? '',
    SECOND_KEY: KEYS[[1, 0, 2][index] ?? 0] ?? '',
  }),
})
const [last, next, stranger] = cluster.replicas
if (last === undefined || next === undefined || stranger === undefined)
  throw new Error('three replicas')

t.test('an upload URL of either key is good at either replica, once over all', async (t) => {
  for (const [signing, taking] of [
    [last, next],
    [next, last],
  ] as const) {
    const session = await open(signing)
    const url = await uploadUrl(session)
    t.equal(await put(on(stranger, url)), 403, 'a replica without the key refuses it')
    t.equal(await put(on(taking, `${url}0`)), 403, 'a changed signature is refused')
    t.equal(await put(on(taking, url), { sha256: '0'.repeat(64) }), 422, 'a digest that is wrong')
    t.equal(await put(on(taking, url)), 200, 'none of which used it up')
    for (const replica of [last, next]) t.equal(await put(on(replica, url)), 410, 'used up')
  }
})

t.test(
  'a download link of either key is good at either replica until its session ends',
  async (t) => {
    for (const [signing, serving] of [
      [last, next],
      [next, last],
    ] as const) {
      const session = await open(signing)
      const link = await downloadUrl(session)
      t.equal((await fetch(on(serving, link))).status, 200)
      t.equal((await fetch(on(stranger, link))).status, 403)
      const other = await open(signing)
      const elsewhere = link.replace(session.id, other.id)
      t.equal((await fetch(on(serving, elsewhere))).status, 403, 'not in another session')
      t.equal((await other.delete()).status, 200)
      t.equal((await session.delete()).status, 200)
      await eventually('the link is dead on every replica that knows the key', async () => {
        const answers = await Promise.all([last, next].map((one) => fetch(on(one, link))))
        return answers.every(({ status }) => status === 404)
      })
    }
  },
)

function open(replica: ClusterReplica): Promise<WireSession> {
  return WireSession.open(`${replica.url}/mcp/files`)
}

async function uploadUrl(session: WireSession): Promise<string> {
  const answer = await session.call('files_get_upload_url')
  const url = /"upload_url":"([^"]+)"/.exec(answer.body)?.[1]
  if (url === undefined) throw new Error(`no upload URL: ${answer.body}`)
  return url
}

async function downloadUrl(session: WireSession): Promise<string> {
  const answer = await session.call('write_report', { filename: 'r.txt', text: 'a report' })
  const url = /"download_url":"([^"]+)"/.exec(answer.body)?.[1]
  if (url === undefined) throw new Error(`no download URL: ${answer.body}`)
  return url
}

/** The same URL at one replica. */
function on(replica: ClusterReplica, url: string): string {
  const { pathname, search } = new URL(url)
  return replica.url + pathname + search
}

async function put(url: string, { sha256 }: { readonly sha256?: string } = {}): Promise<number> {
  const query = sha256 === undefined ? '' : `&sha256=${sha256}`
  return (await fetch(url + query, { method: 'PUT', body: 'bytes' })).status
}
