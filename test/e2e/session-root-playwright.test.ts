/** Playwright that is told the session's directory as its root: official SDK client, adapter, real Playwright MCP server, headless Chromium. */
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'
import type { Test } from 'tap'

import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { startPlaywright } from '../support/upstreams/playwright.ts'
import { answerIn, WireSession } from '../support/wire.ts'

t.setTimeout(240_000)

/** What Playwright waits for a roots/list that nobody gets, in milliseconds. */
const STALL_MS = 60_000

const PAGE = `<!doctype html><title>Upload</title><h1>Upload</h1>
<label>File <input type="file" id="file"></label><p id="seen">nothing yet</p>
<a download="saved.txt" href="data:text/plain,from the page">get it</a>
<script>
document.getElementById('file').addEventListener('change', async (event) => {
  const [file] = event.target.files
  document.getElementById('seen').textContent = 'seen ' + file.name + ' ' + file.size
})
</script>`

const base = await mkdtemp(join(tmpdir(), 'adapter-rooted-browser-'))
// Nothing of anybody's is where Playwright is started.
await mkdir(join(base, 'empty'))
const page = createServer((_request, response) =>
  response.setHeader('content-type', 'text/html; charset=utf-8').end(PAGE),
)
await new Promise<void>((resolve) => {
  page.listen(0, '127.0.0.1', resolve)
})
// A listening TCP server has an address of this type.
const pageUrl = `http://127.0.0.1:${(page.address() as AddressInfo).port}/`
const browser = await startPlaywright(join(base, 'empty'))
const replica = await startReplica({
  config: {
    core: { allow_artifacts_download: true },
    storage: { root: join(base, 'data') },
    servers: [
      {
        id: 'playwright',
        mount_path: '/mcp/playwright',
        upstream: { url: browser.url, session_root: { enabled: true } },
        adapters: [
          { type: 'upload_consumer', tools: ['browser_file_upload'], file_path_argument: 'paths' },
          {
            type: 'artifact_producer',
            tools: ['browser_take_screenshot', 'browser_pdf_save'],
            output_locator: {
              mode: 'directory',
              output_path_regexes: [String.raw`\.(png|jpeg|pdf)$`],
            },
          },
        ],
      },
    ],
  },
})
t.teardown(async () => {
  if (!t.passing()) t.comment(replica.logs())
  await replica.stop()
  await browser.stop()
  page.close()
  await rm(base, { recursive: true, force: true, maxRetries: 5 })
})

const url = `${replica.url}/mcp/playwright`

function directoryOf(sessionId: string): string {
  return join(base, 'data', 'sessions', 'playwright', sessionId)
}

async function connect(t: Test): Promise<{ client: Client; directory: string }> {
  const client = new Client({ name: 'e2e', version: '1' })
  const transport = new StreamableHTTPClientTransport(new URL(url))
  await client.connect(transport)
  t.teardown(async () => {
    await transport.terminateSession()
    await client.close()
  })
  return { client, directory: directoryOf(transport.sessionId ?? '') }
}

async function call(client: Client, name: string, args: Record<string, unknown> = {}) {
  const options = { timeout: STALL_MS }
  const result = CallToolResultSchema.parse(
    await client.callTool({ name, arguments: args }, undefined, options),
  )
  const text = result.content.map((block) => (block.type === 'text' ? block.text : '')).join('\n')
  // What the adapter documents for `_meta.artifact`.
  const artifact = result._meta?.['artifact'] as
    | { readonly filename: string; readonly download_url: string }
    | undefined
  return { text, artifact, isError: result.isError === true }
}

t.test('a client without a stream and without roots waits for no time-out', async (t) => {
  const session = await WireSession.open(url)
  // The client of the test gives up after 20 seconds.
  const answer = answerIn(await session.call('browser_navigate', { url: pageUrl }))
  t.notOk(answer.result?.['isError'], JSON.stringify(answer))
  await eventually('Playwright works in the directory of the session', async () =>
    (await readdir(directoryOf(session.id))).includes('.playwright-mcp'),
  )
  t.same(await readdir(join(base, 'empty')), [], 'and not where it was started')
  await session.delete()
})

t.test('screenshots and PDFs under names that Playwright chose become artifacts', async (t) => {
  const { client } = await connect(t)
  await call(client, 'browser_navigate', { url: pageUrl })
  for (const [tool, magic, args, name] of [
    ['browser_take_screenshot', '\u0089PNG', {}, /^page-.*\.png$/],
    ['browser_take_screenshot', '\u0089PNG', { filename: 'mine.png' }, /^mine\.png$/],
    ['browser_pdf_save', '%PDF', {}, /^page-.*\.pdf$/],
  ] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const { artifact, text } = await call(client, tool, args)
    t.match(artifact?.filename ?? text, name, `${tool} ${JSON.stringify(args)}`)
    if (artifact === undefined) continue
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const bytes = Buffer.from(await (await fetch(artifact.download_url)).arrayBuffer())
    t.equal(bytes.subarray(0, 4).toString('latin1'), magic)
  }
  const none = await call(client, 'browser_snapshot')
  t.equal(none.artifact, undefined)
})

t.test('an upload goes into a page, and nothing else does', async (t) => {
  const { client } = await connect(t)
  const other = await connect(t)
  const bytes = randomBytes(100_000)
  const helper = CallToolResultSchema.parse(
    await client.callTool({ name: 'playwright_get_upload_url', arguments: {} }),
  )
  const form = new FormData()
  form.append('file', new Blob([bytes]), 'in.bin')
  const sent = await fetch(String(helper.structuredContent?.['upload_url']), {
    method: 'POST',
    body: form,
  })
  const { upload_handle: handle } = (await sent.json()) as { upload_handle: string } // documented
  await choose(client)
  const uploaded = await call(client, 'browser_file_upload', { paths: [handle] })
  t.equal(uploaded.isError, false, uploaded.text)
  let seen = ''
  await eventually('the page reports the file', async () => {
    seen = (await call(client, 'browser_snapshot')).text
    return seen.includes('seen ')
  })
  t.match(seen, `seen in.bin ${bytes.length}`)

  await call(other.client, 'browser_navigate', { url: pageUrl })
  for (const filename of [
    '/etc/adapter-test.png',
    '../../outside.png',
    join(base, 'empty', 'here.png'),
    join((await connectedDirectory(client)) ?? '', 'stolen.png'),
    join(base, 'data', 'state', 'x.png'),
  ]) {
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const refused = await call(other.client, 'browser_take_screenshot', { filename })
    t.equal(refused.isError, true, filename)
    t.match(refused.text, /outside allowed roots/, 'Playwright itself refuses it')
    t.match(refused.text, other.directory, 'and knows one root')
  }
  const read = await call(other.client, 'browser_navigate', { url: 'file:///etc/passwd' })
  t.equal(read.isError, true, 'file: is no way around')
})

/** Opens the page's file chooser. */
async function choose(client: Client): Promise<void> {
  await call(client, 'browser_navigate', { url: pageUrl })
  const { text } = await call(client, 'browser_snapshot')
  const target = /button "File" \[ref=(\w+)\]/.exec(text)?.[1]
  const clicked = await call(client, 'browser_click', { element: 'file input', target })
  if (clicked.isError) throw new Error(clicked.text)
}

/** Where a client's session is, by what Playwright says of it. */
async function connectedDirectory(client: Client): Promise<string | undefined> {
  const { text } = await call(client, 'browser_take_screenshot', { filename: '/nowhere/x.png' })
  return /Allowed roots: .*, (\S+)/.exec(text)?.[1]
}
