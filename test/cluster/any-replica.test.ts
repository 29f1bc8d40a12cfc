/** One session of a real browser, each step of it on another replica. */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startCluster } from '../support/cluster.ts'
import type { ClusterReplica } from '../support/cluster.ts'
import { eventually, within } from '../support/eventually.ts'
import { startRecordingProxy } from '../support/recording-proxy.ts'
import { playwrightServer, startPlaywright } from '../support/upstreams/playwright.ts'
import { answerIn, WireSession } from '../support/wire.ts'
import type { WireAnswer } from '../support/wire.ts'

t.setTimeout(600_000)

const PAGE = `<!doctype html><title>State</title>
<label>File <input type="file" id="file"></label><p id="seen">nothing yet</p>
<script>
document.getElementById('file').addEventListener('change', async (event) => {
  document.getElementById('seen').textContent = 'seen ' + await event.target.files[0].text()
})
</script>`

const directory = await mkdtemp(join(tmpdir(), 'adapter-any-'))
const playwright = await startPlaywright(directory)
const page = createServer((_request, response) =>
  response.setHeader('content-type', 'text/html').end(PAGE),
)
await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
// A listening TCP server has an address of this type.
const pageUrl = `http://127.0.0.1:${(page.address() as AddressInfo).port}/`
t.teardown(async () => {
  await playwright.stop()
  page.closeAllConnections()
  page.close()
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
})

t.test('a session is opened, used and closed on whichever replica a request reaches', async (t) => {
  const recorder = await startRecordingProxy(t, playwright.url)
  const cluster = await startCluster(t, {
    root: join(directory, 'shared'),
    servers: () => [playwrightServer(recorder.url, directory)],
  })
  const [a, b, c] = cluster.replicas
  if (a === undefined || b === undefined || c === undefined) throw new Error('three replicas')
  const onA = await WireSession.open(`${a.url}/mcp/playwright`)
  const onB = sameSession(onA, b)
  const onC = sameSession(onA, c)

  await resultOf(onB.call('browser_navigate', { url: pageUrl }))
  await resultOf(evaluate(onB, "() => { window.steps = ['navigated on B'] }"))
  const stepsOnC = await resultOf(evaluate(onC, "() => window.steps.push('seen on C')"))
  t.match(textOf(stepsOnC), /2/, 'the page of one replica is the page of the other')

  const screenshot = await resultOf(onB.call('browser_take_screenshot', { filename: 'page.png' }))
  const artifact = artifactOf(screenshot)
  const image = await fetch(on(a, artifact.download_url))
  t.equal(image.status, 200, 'downloaded from A, made on B')
  t.equal(
    Buffer.from(await image.arrayBuffer())
      .subarray(1, 4)
      .toString('latin1'),
    'PNG',
  )
  const resource = await resultOf(onC.request('resources/read', { uri: artifact.artifact_uri }))
  t.match(JSON.stringify(resource), 'image/png', 'read as a resource on C')

  const helper = await resultOf(onA.call('playwright_get_upload_url'))
  const { upload_url: uploadUrl } = helper['structuredContent'] as { upload_url: string } // what the tool documents
  const form = new FormData()
  form.append('file', new Blob(['bytes that went in through C']), 'note.txt')
  const uploaded = await fetch(on(c, uploadUrl), { method: 'POST', body: form })
  const { upload_handle: handle } = (await uploaded.json()) as { upload_handle: string } // the documented answer
  t.match(handle, /^upload:/, 'uploaded to C with the URL that A gave')
  const again = await fetch(on(b, uploadUrl), { method: 'PUT', body: 'twice' })
  t.equal(again.status, 410, 'which is used up on B, too')

  const snapshot = textOf(await resultOf(onA.call('browser_snapshot')))
  const target = /button "File" \[ref=(\w+)\]/.exec(snapshot)?.[1]
  await resultOf(onA.call('browser_click', { element: 'file input', target }))
  await resultOf(onB.call('browser_file_upload', { paths: [handle] }))
  await eventually('the page has the file', async () =>
    textOf(await resultOf(onC.call('browser_snapshot'))).includes('bytes that went in through C'),
  )

  const stream = await onB.get()
  t.equal(stream.status, 200, 'the standing stream is had on B')
  const steps = await resultOf(evaluate(onA, '() => window.steps'))
  t.match(textOf(steps), /navigated on B[^]*seen on C/, 'one page all the time')

  t.equal((await onC.delete()).status, 200, 'closed on C')
  t.equal(await within('the stream on B ends', stream.ended), 'end')
  for (const session of [onA, onB, onC]) {
    await eventually('every replica has heard of it', async () => {
      const answer = await session.call('browser_snapshot')
      return answer.status === 404
    })
  }
  t.equal((await fetch(on(a, artifact.download_url))).status, 404, 'its files are gone')

  const opened = recorder.passed.flatMap(({ openedSession }) => openedSession ?? [])
  const named = recorder.passed.flatMap(({ sessionId }) => sessionId ?? [])
  // Pings are for a session that there is not.
  const used = new Set(named.filter((id) => !id.startsWith('adapter-ping-')))
  t.equal(new Set(opened).size, 1, 'one upstream session was opened')
  t.same([...used], [...new Set(opened)], 'and no other was used')
  await eventually('it was ended', () => recorder.passed.some(({ method }) => method === 'DELETE'))
})

function sameSession(session: WireSession, replica: ClusterReplica): WireSession {
  return new WireSession(`${replica.url}/mcp/playwright`, session.id, session.version)
}

/** A URL that the adapter gave out, at a replica of our choice. */
function on(replica: ClusterReplica, url: string): string {
  const { pathname, search } = new URL(url)
  return `${replica.url}${pathname}${search}`
}

function evaluate(session: WireSession, script: string): Promise<WireAnswer> {
  return session.call('browser_evaluate', { function: script })
}

async function resultOf(sent: Promise<WireAnswer>): Promise<Readonly<Record<string, unknown>>> {
  const answer = answerIn(await sent)
  if (answer.result === undefined || answer.result['isError'] === true)
    throw new Error(`no result: ${JSON.stringify(answer)}`)
  return answer.result
}

function textOf(result: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(result['content']).replaceAll('\\"', '"')
}

function artifactOf(result: Readonly<Record<string, unknown>>) {
  // What the adapter documents for `_meta.artifact`.
  const meta = result['_meta'] as { artifact: { artifact_uri: string; download_url: string } }
  return meta.artifact
}
