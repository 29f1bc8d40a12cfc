// `npm run demo`: does what an MCP client does with the example of `npm start`, and says what happens: upload, tool call, artifact, download.
// Uses a running `npm start` (PORT says where), or starts one for itself and stops it afterwards.

import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { portFromEnvironment, startReportStack, stopAll, stopSignal } from './services.mjs'
import { ensureBuild, ensureDependencies, projectRoot, runMain, say, SetupError } from './setup.mjs'

const DEFAULT_PORT = 8932
const LIMIT_MS = 30_000
const SAMPLE = 'sample-data.csv'
const REPORT_NAME = 'sales report.md'

await runMain(async () => {
  ensureDependencies()
  const running = await findRunning(portFromEnvironment('PORT', DEFAULT_PORT))
  if (running !== undefined) {
    say(`Using the adapter that runs at ${running}.`)
    await demonstrate(running)
    return
  }
  say('Nothing runs yet: starting the adapter and the example upstream for this demo.')
  ensureBuild()
  const dataFolder = await mkdtemp(join(tmpdir(), 'remote-mcp-adapter-demo-'))
  try {
    const stack = await startReportStack({ port: 0, dataFolder, quiet: true, signal: stopSignal() })
    try {
      await demonstrate(stack.adapterUrl)
    } finally {
      await stopAll(stack.services)
    }
  } finally {
    await rm(dataFolder, { recursive: true, force: true })
  }
  say('Stopped what was started for the demo.')
})

/** The base URL of a running `npm start`, or undefined when there is none at this port. */
async function findRunning(port) {
  if (port === 0) return undefined
  const url = `http://127.0.0.1:${port}`
  try {
    const answer = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(5_000) })
    const health = await answer.json()
    return health.servers?.some(({ mount_path }) => mount_path === '/mcp/report') ? url : undefined
  } catch {
    return undefined
  }
}

/** The walk through, with one client session. Throws a SetupError that says what was wrong. */
async function demonstrate(baseUrl) {
  const { client, transport } = await connect(`${baseUrl}/mcp/report`)
  try {
    await showTools(client)
    const uploadUrl = await askForUploadUrl(client)
    const handle = await upload(uploadUrl)
    const artifact = await makeReport(client, handle)
    const fromResource = await readAsResource(client, artifact)
    await download(artifact, fromResource)
    say('\nDone: a file went in, a report came out, and neither passed through the model.')
  } finally {
    // Ends the session, and its files with it. One that can't be ended expires.
    await transport.terminateSession().catch(() => undefined)
    await client.close()
  }
}

async function connect(url) {
  // Loaded here: in a fresh clone the packages are there only now.
  const [{ Client }, { StreamableHTTPClientTransport }] = await Promise.all([
    import('@modelcontextprotocol/sdk/client/index.js'),
    import('@modelcontextprotocol/sdk/client/streamableHttp.js'),
  ])
  const client = new Client({ name: 'demo', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(url))
  step(1, `Connect to ${url} (MCP "initialize")`)
  await client.connect(transport, { timeout: LIMIT_MS })
  const { name } = client.getServerVersion() ?? {}
  say(
    `   The server behind the adapter is "${name}". The adapter gave us session ${transport.sessionId?.slice(0, 8)}…`,
  )
  return { client, transport }
}

async function showTools(client) {
  step(2, 'Ask which tools there are ("tools/list")')
  const { tools } = await client.listTools(undefined, { timeout: LIMIT_MS })
  for (const tool of tools) {
    const origin =
      tool.name === 'report_get_upload_url' ? 'added by the adapter' : "the server's own"
    say(`   ${tool.name}  (${origin})`)
  }
  check(
    tools.some((tool) => tool.name === 'report_get_upload_url'),
    'the adapter did not add report_get_upload_url',
  )
}

async function askForUploadUrl(client) {
  step(3, 'Ask where to upload a file (tool report_get_upload_url)')
  const { structuredContent } = await callTool(client, 'report_get_upload_url', {})
  const url = structuredContent?.upload_url
  check(typeof url === 'string', 'the answer has no upload_url')
  say(`   ${url.split('?')[0]}?…`)
  say('   The URL is signed and works once: it needs no password, so a browser or curl can use it.')
  return url
}

async function upload(url) {
  step(4, `Upload examples/${SAMPLE} there (an ordinary HTTP form upload)`)
  const bytes = await readFile(join(projectRoot, 'examples', SAMPLE))
  const form = new FormData()
  form.append('file', new Blob([bytes]), SAMPLE)
  const signal = AbortSignal.timeout(LIMIT_MS)
  const answer = await fetch(url, { method: 'POST', body: form, signal })
  const text = await answer.text()
  check(answer.ok, `the upload was answered ${answer.status}: ${text}`)
  const handle = JSON.parse(text).upload_handle
  check(typeof handle === 'string', 'the answer has no upload_handle')
  say(`   ${bytes.length} bytes are stored. Our handle for them: ${shorten(handle)}`)
  return handle
}

async function makeReport(client, path) {
  step(5, 'Call the tool make_report with the handle in place of a path')
  const result = await callTool(client, 'make_report', { path, filename: REPORT_NAME })
  say(`   The server says: ${result.content.find(({ type }) => type === 'text')?.text}`)
  say('   It got a real path for the handle, and wrote the report where the adapter told it to.')
  const link = result.content.find(({ type }) => type === 'resource_link')
  const artifact = result['_meta']?.artifact
  check(link !== undefined && artifact !== undefined, 'the result has no artifact')
  say(
    `   The adapter added the file as an artifact: ${link.name}, ${link.size} bytes, ${link.mimeType}`,
  )
  say(`   ${shorten(link.uri)}`)
  return { uri: link.uri, name: link.name, downloadUrl: artifact.download_url }
}

async function readAsResource(client, { uri }) {
  step(6, 'Read the artifact as an MCP resource ("resources/read")')
  const { contents } = await client.readResource({ uri }, { timeout: LIMIT_MS })
  const [content] = contents
  check(content !== undefined, 'the resource is empty')
  const bytes = Buffer.from(
    content.text ?? content.blob,
    content.text === undefined ? 'base64' : 'utf8',
  )
  for (const line of bytes.toString('utf8').split('\n').slice(0, 6)) say(`   | ${line}`)
  say('   | …')
  return bytes
}

async function download({ downloadUrl, name }, expected) {
  step(7, 'Download the same file by its link (plain HTTP)')
  check(typeof downloadUrl === 'string', 'the artifact has no download link')
  say(`   ${shorten(downloadUrl.split('?')[0])}?…`)
  const answer = await fetch(downloadUrl, { signal: AbortSignal.timeout(LIMIT_MS) })
  check(answer.ok, `the download was answered ${answer.status}`)
  const bytes = Buffer.from(await answer.arrayBuffer())
  check(bytes.length > 0, 'the download is empty')
  check(bytes.equals(expected), 'the download differs from the resource')
  say(`   ${name}: ${bytes.length} bytes, the same as the resource.`)
}

async function callTool(client, name, args) {
  const result = await client.callTool({ name, arguments: args }, undefined, { timeout: LIMIT_MS })
  check(result.isError !== true, `${name} failed: ${JSON.stringify(result.content)}`)
  return result
}

function step(number, what) {
  say(`\n${number}. ${what}`)
}

function shorten(text) {
  return text.length > 76 ? `${text.slice(0, 60)}…${text.slice(-15)}` : text
}

function check(condition, otherwise) {
  if (!condition) throw new SetupError(`The demo failed: ${otherwise}.`)
}
