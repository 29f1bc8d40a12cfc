// A client over TLS for scripts/smoke-glibc238.sh: a session, a listing, and an upload URL that begins with https and takes a file.
// Usage: NODE_EXTRA_CA_CERTS=cert.pem node scripts/smoke-tls-client.mjs https://localhost:PORT/mcp/report
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

const url = process.argv[2] ?? ''
const client = new Client({ name: 'smoke', version: '1' })
await client.connect(new StreamableHTTPClientTransport(new URL(url)))
const { tools } = await client.listTools()
const helper = tools.find(({ name }) => name.endsWith('_get_upload_url'))
if (helper === undefined) throw new Error('there is no upload helper')
const answer = await client.callTool({ name: helper.name, arguments: {} })
const uploadUrl = String(answer.structuredContent?.upload_url)
if (!uploadUrl.startsWith(new URL(url).origin)) throw new Error(`${uploadUrl} is elsewhere`)
const body = Buffer.alloc(3_000_000, 'x')
const uploaded = await fetch(uploadUrl, { method: 'PUT', body })
if (uploaded.status !== 200) throw new Error(`the upload was answered ${uploaded.status}`)
await client.close()
process.stdout.write(`== Over TLS: ${tools.length} tools, and an upload of ${body.length} bytes\n`)
