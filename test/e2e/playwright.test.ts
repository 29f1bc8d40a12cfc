/** The whole way with a real browser: official SDK client, adapter, real Playwright MCP server, headless Chromium. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { eventually } from '../support/eventually.ts'
import { startReplica } from '../support/replica.ts'
import { playwrightServer, startPlaywright } from '../support/upstreams/playwright.ts'

const FILE_NAME = 'Übersicht – 報告 №1.bin'

/** Shows what the page's file input got: name, size and SHA-256. */
const PAGE = `<!doctype html><title>Upload</title><h1>Upload</h1>
<label>File <input type="file" id="file"></label><p id="seen">nothing yet</p>
<script>
document.getElementById('file').addEventListener('change', async (event) => {
  const [file] = event.target.files
  const digest = await crypto.subtle.digest('SHA-256', await file.arrayBuffer())
  const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  document.getElementById('seen').textContent = 'seen ' + file.name + ' ' + file.size + ' ' + hex
})
</script>`

// Playwright confines files to its working directory: the adapter's storage lies inside.
const workspace = await mkdtemp(join(tmpdir(), 'adapter-playwright-'))
await mkdir(join(workspace, 'shared'))
const page = createServer((_request, response) =>
  response.setHeader('content-type', 'text/html; charset=utf-8').end(PAGE),
)
await new Promise<void>((resolve) => {
  page.listen(0, '127.0.0.1', resolve)
})
// A listening TCP server has an address of this type.
const pageUrl = `http://127.0.0.1:${(page.address() as AddressInfo).port}/`

const browser = await startPlaywright(workspace)
const replica = await startReplica({
  config: {
    core: { allow_artifacts_download: true },
    storage: { root: join(workspace, 'shared') },
    servers: [playwrightServer(browser.url, workspace)],
  },
})
t.teardown(async () => {
  if (!t.passing()) t.comment(replica.logs())
  await replica.stop()
  await browser.stop()
  page.close()
  await rm(workspace, { recursive: true, force: true, maxRetries: 5 })
})

t.test(
  'a file goes into a web page and a screenshot and a PDF come back',
  { timeout: 120_000 },
  async (t) => {
    const client = await connect()
    t.teardown(() => client.close())
    const bytes = randomBytes(5 * 1024 * 1024)
    const sha256 = createHash('sha256').update(bytes).digest('hex')

    await call(client, 'browser_navigate', { url: pageUrl })
    const snapshot = await call(client, 'browser_snapshot', {})
    const ref = /button "File" \[ref=(\w+)\]/.exec(
      JSON.stringify(snapshot.content).replaceAll('\\"', '"'),
    )?.[1]
    t.ok(ref, `the page has a file input: ${JSON.stringify(snapshot.content)}`)
    const clicked = await call(client, 'browser_click', { element: 'file input', target: ref })
    t.notOk(clicked.isError, JSON.stringify([snapshot.content, clicked.content]))

    const handle = await upload(client, bytes)
    const uploaded = await call(client, 'browser_file_upload', { paths: [handle] })
    t.notOk(uploaded.isError, JSON.stringify(uploaded.content))
    let seen = ''
    await eventually('the page reports the file', async () => {
      seen = JSON.stringify((await call(client, 'browser_snapshot', {})).content)
      return seen.includes('seen ')
    })
    t.ok(
      seen.includes(`seen ${FILE_NAME} ${bytes.length} ${sha256}`),
      `name, size and digest as sent: ${seen}`,
    )

    const stranger = await connect()
    t.teardown(() => stranger.close())
    for (const [tool, magic] of [
      ['browser_take_screenshot', '\u0089PNG'],
      ['browser_pdf_save', '%PDF'],
    ] as const) {
      const result = await call(client, tool, {
        filename: tool.includes('pdf') ? 'page.pdf' : 'page.png',
      })
      const artifact = artifactOf(result)
      t.ok(artifact, `${tool} made an artifact: ${JSON.stringify(result)}`)
      if (artifact === undefined) continue
      const downloaded = Buffer.from(await (await fetch(artifact.download_url)).arrayBuffer())
      const [content] = (await client.readResource({ uri: artifact.artifact_uri })).contents
      const read = Buffer.from(
        content !== undefined && 'blob' in content ? content.blob : '',
        'base64',
      )
      t.equal(downloaded.subarray(0, 4).toString('latin1'), magic)
      t.ok(read.equals(downloaded), 'the same bytes by resource read and by download link')
      t.ok(
        result.content.some(
          (block) => block.type === 'resource_link' && block.uri === artifact.artifact_uri,
        ),
      )
      await t.rejects(
        stranger.readResource({ uri: artifact.artifact_uri }),
        'another session can not read it',
      )
      const unsigned = new URL(artifact.download_url)
      unsigned.search = ''
      const refused = await fetch(unsigned, { headers: { 'mcp-session-id': sessionOf(stranger) } })
      t.ok([403, 404].includes(refused.status), `nor download it (${refused.status})`)
    }
    const foreign = await call(stranger, 'browser_file_upload', { paths: [handle] })
    t.ok(foreign.isError, 'nor use the upload')
    t.notMatch(JSON.stringify(foreign), sha256)
  },
)

async function upload(client: Client, bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const helper = await call(client, 'playwright_get_upload_url', {})
  const form = new FormData()
  form.append('file', new Blob([bytes]), FILE_NAME)
  const answer = await fetch(String(helper.structuredContent?.['upload_url']), {
    method: 'POST',
    body: form,
  })
  const json = (await answer.json()) as { upload_handle?: string } // the documented answer
  return json.upload_handle ?? ''
}

const transports = new WeakMap<Client, StreamableHTTPClientTransport>()

async function connect(): Promise<Client> {
  const client = new Client({ name: 'e2e', version: '1' })
  const transport = new StreamableHTTPClientTransport(new URL(`${replica.url}/mcp/playwright`))
  await client.connect(transport)
  transports.set(client, transport)
  return client
}

function sessionOf(client: Client): string {
  return transports.get(client)?.sessionId ?? ''
}

async function call(client: Client, name: string, args: Record<string, unknown>) {
  return CallToolResultSchema.parse(
    await client.callTool({ name, arguments: args }, undefined, { timeout: 60_000 }),
  )
}

function artifactOf(result: { _meta?: Record<string, unknown> | undefined }) {
  // What the adapter documents for `_meta.artifact`.
  return result._meta?.['artifact'] as { artifact_uri: string; download_url: string } | undefined
}
