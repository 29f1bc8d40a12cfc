/**
 * A minimal MCP server on uWebSockets.js, in a process of its own: never the bottleneck, and its CPU is counted apart. It checks nothing.
 * Prints `upstream ready <port>`. `?tools=N` sets how many tools it lists; `BENCH_BIG_FILE` is what `copy_big` copies.
 */
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'

import { EXCLUSIVE_PORT, loadNative } from '../../src/primary/listener/native.ts'
import type { HttpRequest, HttpResponse } from '../../src/primary/listener/native.ts'
import { DEFAULT_TOOLS, toolList } from './tool-list.ts'

interface Message {
  readonly id?: unknown
  readonly method?: string
  readonly params?: {
    readonly name?: string
    readonly protocolVersion?: string
    readonly arguments?: Readonly<Record<string, unknown>>
  }
}

const FILE_CONTENT = Buffer.alloc(1_024, 'x')
const ECHO_TEXT = 'echo '.repeat(24).trim()
const ECHO_RESULT = JSON.stringify({ content: [{ type: 'text', text: ECHO_TEXT }], isError: false })

const native = loadNative()
const listings = new Map<number, string>()

const app = native.uws.App()
app.any('/mcp', handle)
app.listen('127.0.0.1', 0, EXCLUSIVE_PORT, (socket) => {
  if (socket === false) process.exit(1)
  process.stdout.write(`upstream ready ${native.uws.us_socket_local_port(socket)}\n`)
})
process.once('SIGTERM', () => process.exit(0))

function handle(res: HttpResponse, req: HttpRequest): void {
  switch (req.getMethod()) {
    case 'post':
      collect(res, toolCount(req.getQuery()))
      return
    case 'get':
      // Open until the other side leaves; the comment makes the head travel.
      res.onAborted(() => {})
      res.writeHeader('content-type', 'text/event-stream').write(': open\n\n')
      return
    default:
      res.end()
  }
}

function collect(res: HttpResponse, tools: number): void {
  const parts: Buffer[] = []
  let aborted = false
  res.onAborted(() => {
    aborted = true
  })
  res.onData((chunk, isLast) => {
    // The chunk is lent; a body in one piece is used up before this returns.
    const piece = Buffer.from(chunk)
    if (!isLast) {
      parts.push(Buffer.from(piece))
      return
    }
    const body = parts.length === 0 ? piece : Buffer.concat([...parts, piece])
    // Only the adapter and this benchmark talk to it.
    answer(res, JSON.parse(body.toString('utf8')) as Message, tools, () => aborted)
  })
}

function answer(res: HttpResponse, message: Message, tools: number, isGone: () => boolean): void {
  if (message.id === undefined) {
    res.writeStatus('202 Accepted').end()
    return
  }
  switch (message.method ?? '') {
    case 'initialize':
      res.writeHeader('mcp-session-id', randomUUID())
      return send(res, message.id, initializeResult(message))
    case 'tools/list':
      return send(res, message.id, listing(tools))
    case 'tools/call':
      return call(res, message, tools, isGone)
    default:
      return send(res, message.id, '{}')
  }
}

function call(res: HttpResponse, message: Message, tools: number, isGone: () => boolean): void {
  const output = message.params?.arguments?.['output']
  const path = typeof output === 'string' ? output : ''
  switch (message.params?.name ?? '') {
    case 'produce':
    case 'convert':
      writeFileSync(path, FILE_CONTENT)
      return send(res, message.id, textResult(`Saved to ${path}`))
    case 'listing':
      // The bytes of tools/list as an answer that no adapter looks into.
      return send(res, message.id, listing(tools))
    case 'copy_big':
      void copyBig(path).then((text) => {
        if (!isGone()) res.cork(() => send(res, message.id, textResult(text)))
      })
      return
    default:
      return send(res, message.id, ECHO_RESULT)
  }
}

async function copyBig(path: string): Promise<string> {
  try {
    await copyFile(process.env['BENCH_BIG_FILE'] ?? '', path)
    return `Saved to ${path}`
  } catch (error) {
    return `failed: ${String(error)}`
  }
}

function send(res: HttpResponse, id: unknown, result: string): void {
  res
    .writeHeader('content-type', 'application/json')
    .end(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${result}}`)
}

function textResult(text: string): string {
  return JSON.stringify({ content: [{ type: 'text', text }] })
}

function initializeResult(message: Message): string {
  return JSON.stringify({
    protocolVersion: message.params?.protocolVersion ?? '2025-11-25',
    capabilities: { tools: { listChanged: true } },
    serverInfo: { name: 'bench-upstream', version: '1.0.0' },
  })
}

function listing(tools: number): string {
  const known = listings.get(tools)
  if (known !== undefined) return known
  const made = JSON.stringify({ tools: toolList(tools) })
  listings.set(tools, made)
  return made
}

function toolCount(query: string | undefined): number {
  const count = Number(new URLSearchParams(query ?? '').get('tools') ?? DEFAULT_TOOLS)
  return Number.isInteger(count) && count > 0 ? count : DEFAULT_TOOLS
}
