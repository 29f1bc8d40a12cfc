// A small MCP server behind the adapter: a file in, a report out. It knows nothing of uploads and artifacts; its tools take and make
// files by path, as servers do that were written for the same machine as their client.
//
//   node examples/report-server/server.mjs [--port 8933] [--files .data/sessions]

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'
import { randomUUID } from 'node:crypto'
import { readFile, realpath, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { basename, dirname, extname, join, resolve, sep } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'

import { summarize, textOf, toHtml, toMarkdown } from './report.mjs'

const MAX_FILE_BYTES = 10 * 1024 * 1024
const MAX_REQUEST_BYTES = 1024 * 1024

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '8933' },
    // Nothing outside this folder is read or written, whatever path a caller gives.
    files: { type: 'string', default: '.data/sessions' },
  },
})

const sessions = new Map()
const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    process.stderr.write(`report server: ${error.stack}\n`)
    if (response.headersSent) response.destroy()
    else response.writeHead(500).end()
  })
})
server.on('error', (error) => {
  const taken = `port ${options.port} is in use; choose another one with --port`
  process.stderr.write(`report server: ${error.code === 'EADDRINUSE' ? taken : error.message}\n`)
  process.exit(1)
})
server.listen(Number(options.port), '127.0.0.1', () => {
  process.stdout.write(`report server listening on 127.0.0.1:${server.address().port}\n`)
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop)
// Whoever starts it with a pipe as standard input ends it by going away.
if (process.env.STOP_WITH_STDIN === '1') process.stdin.on('end', stop).resume()

/** One HTTP request: POST, GET or DELETE of /mcp, in a session of its own transport. */
async function serve(request, response) {
  const port = server.address().port
  // A web page that points its own name at 127.0.0.1 must not get in.
  if (![`127.0.0.1:${port}`, `localhost:${port}`].includes(request.headers.host)) {
    return refuse(response, 403, 'unknown Host header')
  }
  if (new URL(request.url, 'http://localhost').pathname !== '/mcp') {
    return refuse(response, 404, 'the endpoint is /mcp')
  }
  const body = request.method === 'POST' ? await readJson(request) : undefined
  const id = request.headers['mcp-session-id']
  let transport = sessions.get(id)
  if (transport === undefined) {
    if (!isInitializeRequest(body)) {
      return refuse(response, id === undefined ? 400 : 404, 'unknown session')
    }
    transport = await openSession()
  }
  await transport.handleRequest(request, response, body)
}

async function openSession() {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => void sessions.set(id, transport),
    onsessionclosed: (id) => void sessions.delete(id),
  })
  await createReportServer().connect(transport)
  return transport
}

function createReportServer() {
  const reports = new McpServer({ name: 'report-server', version: '1.0.0' })
  const path = z.string().describe('The file to read, CSV or other text.')
  reports.registerTool(
    'summarize_file',
    {
      title: 'Summarize a file',
      description: 'Reads a CSV or text file and answers its size and what its columns hold.',
      inputSchema: { path },
      annotations: { readOnlyHint: true },
    },
    async (args) => {
      const summary = await summaryOf(args.path)
      const content = [{ type: 'text', text: toMarkdown(summary) }]
      return { content, structuredContent: summary }
    },
  )
  reports.registerTool(
    'make_report',
    {
      title: 'Make a report',
      description:
        'Reads a CSV or text file and writes a report about it: an HTML page when the file name ends in .html, else Markdown.',
      inputSchema: { path, filename: z.string().describe('The file to write, such as report.md.') },
    },
    async (args) => {
      const summary = await summaryOf(args.path)
      const target = await permitted(args.filename)
      const isHtml = extname(target).toLowerCase() === '.html'
      await writeFile(target, isHtml ? toHtml(summary) : toMarkdown(summary))
      const text = `Wrote a report about ${summary.name} (${summary.lines} lines) to ${basename(target)}.`
      return { content: [{ type: 'text', text }] }
    },
  )
  return reports
}

async function summaryOf(path) {
  const source = await permitted(path)
  const { size } = await stat(source)
  if (size > MAX_FILE_BYTES) throw new Error(`the file is larger than ${MAX_FILE_BYTES} bytes`)
  return summarize(basename(source), textOf(await readFile(source)))
}

/** The real path of a file, which need not exist yet; throws when it is not below the folder of `--files`. */
async function permitted(path) {
  const absolute = resolve(path)
  const real = await realpath(absolute).catch(async () =>
    join(await realpath(dirname(absolute)), basename(absolute)),
  )
  const folder = await realpath(resolve(options.files))
  if (!real.startsWith(folder + sep)) throw new Error('this path is outside of the shared folder')
  return real
}

async function readJson(request) {
  const chunks = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > MAX_REQUEST_BYTES) return undefined
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    return undefined
  }
}

function refuse(response, status, message) {
  const body = { jsonrpc: '2.0', id: null, error: { code: -32_000, message } }
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function stop() {
  server.close(() => process.exit(0))
  // Open streams would hold it for ever.
  server.closeAllConnections()
}
