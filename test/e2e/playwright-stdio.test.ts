/** The example of a remote browser in one command: no second terminal, a file goes into a page, a screenshot comes back, and no browser stays. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CallToolResultSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { eventually, within } from '../support/eventually.ts'
import { descendantsOf, isAlive } from '../support/process-table.ts'
import { runScript } from '../support/script.ts'

t.setTimeout(300_000)

const PAGE = `<!doctype html><title>Upload</title><h1>Upload</h1>
<label>File <input type="file" id="file"></label><p id="seen">nothing yet</p>
<script>
document.getElementById('file').addEventListener('change', async (event) => {
  const [file] = event.target.files
  const digest = await crypto.subtle.digest('SHA-256', await file.arrayBuffer())
  const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  document.getElementById('seen').textContent = 'seen ' + file.name + ' ' + hex
})
</script>`

const folder = await mkdtemp(join(tmpdir(), 'adapter-playwright-stdio-'))
const page = createServer((_request, response) =>
  response.setHeader('content-type', 'text/html; charset=utf-8').end(PAGE),
)
await new Promise<void>((listening) => page.listen(0, '127.0.0.1', listening))
// A listening TCP server has an address of this type.
const pageUrl = `http://127.0.0.1:${(page.address() as AddressInfo).port}/`
t.teardown(async () => {
  page.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
})

t.test('a browser on stdio takes an upload and gives a screenshot', async (t) => {
  const start = runScript(
    t,
    'start.mjs',
    {
      ADAPTER_DATA: join(folder, 'data'),
      PLAYWRIGHT_MCP_SANDBOX: process.getuid?.() === 0 ? 'false' : 'true',
      CHROMIUM: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
      // As npm does.
      PATH: `${resolve('node_modules/.bin')}:${process.env['PATH'] ?? ''}`,
    },
    ['--config', 'examples/playwright-stdio.yaml', '--port', '0'],
  )
  const port = (): string | undefined => /listening on \S+:(\d+)/.exec(start.output())?.[1]
  await eventually('the adapter listens', () => start.hasEnded || port() !== undefined, 60_000)
  const url = new URL(`http://127.0.0.1:${port()}/mcp/playwright`)

  const client = new Client({ name: 'e2e', version: '1' }, { capabilities: { roots: {} } })
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [] }))
  const transport = new StreamableHTTPClientTransport(url)
  await client.connect(transport)
  const call = async (name: string, args: Record<string, unknown> = {}) =>
    CallToolResultSchema.parse(
      await client.callTool({ name, arguments: args }, undefined, { timeout: 60_000 }),
    )

  await call('browser_navigate', { url: pageUrl })
  const snapshot = JSON.stringify((await call('browser_snapshot')).content)
  const target = /button "File" \[ref=(\w+)\]/.exec(snapshot.replaceAll('\\"', '"'))?.[1]
  await call('browser_click', { element: 'file input', target })
  const bytes = randomBytes(1_000_000)
  const helper = await call('playwright_get_upload_url')
  const form = new FormData()
  form.append('file', new Blob([bytes]), 'data.bin')
  const answer = await fetch(String(helper.structuredContent?.['upload_url']), {
    method: 'POST',
    body: form,
  })
  const { upload_handle: handle } = (await answer.json()) as { upload_handle: string } // as documented
  const uploaded = await call('browser_file_upload', { paths: [handle] })
  t.notOk(uploaded.isError, JSON.stringify(uploaded.content))
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  await eventually('the page has the file', async () =>
    JSON.stringify((await call('browser_snapshot')).content).includes(`seen data.bin ${sha256}`),
  )

  const shot = await call('browser_take_screenshot', { filename: 'page.png' })
  const artifact = shot['_meta']?.['artifact'] as { download_url: string } | undefined // as documented
  t.ok(artifact, JSON.stringify(shot))
  const image = Buffer.from(await (await fetch(artifact?.download_url ?? '')).arrayBuffer())
  t.equal(image.subarray(1, 4).toString('latin1'), 'PNG')

  const browsers = descendantsOf(start.child.pid ?? -1)
  t.ok(browsers.length > 3, 'there are processes of the browser')
  await client.close()
  start.child.kill('SIGINT')
  t.equal(await within('it ends', start.exited, 30_000), 0)
  await eventually('no process is left', () => !browsers.some(isAlive))
})
