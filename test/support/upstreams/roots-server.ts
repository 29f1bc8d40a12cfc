/** An upstream that keeps to the roots of its client: it asks for them, on the standalone stream or on a call's own, and writes files there. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import {
  ElicitResultSchema,
  isInitializeRequest,
  ListRootsResultSchema,
  RootsListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'

import { noted } from '../secret-scan.ts'
import { headerOf, listenOnLoopback, readJsonBody, sendRpcError } from './http-fixture.ts'

/** How long the upstream waits for roots, in milliseconds: a request that nobody gets must fail within the test's patience. */
const ROOTS_TIMEOUT_MS = 8_000

/** A running server. */
export interface RootsServer {
  readonly url: string
  /** What the clients of its sessions declared, oldest session first. */
  readonly capabilities: readonly unknown[]
  /** Ids of its sessions, oldest first. */
  readonly sessions: readonly string[]
  /** Changes of roots that it was told of. */
  readonly changes: number
  /** GETs that it has answered with a stream. */
  readonly streams: number
  /** Lets the calls that wait for this word go on. */
  release(word: string): void
  /** Forgets all sessions: their next requests are answered 404, their streams end. */
  drop(): Promise<void>
  stop(): Promise<void>
}

/** `serves: 'post'` has no standalone stream and answers GET with 405. */
export async function startRootsServer(
  options: { readonly serves?: 'post' | 'both' } = {},
): Promise<RootsServer> {
  const capabilities: unknown[] = []
  const ids: string[] = []
  const live = new Map<string, StreamableHTTPServerTransport>()
  const gates = new Map<string, PromiseWithResolvers>()
  const counts = { changes: 0, streams: 0 }
  const gate = (word: string): PromiseWithResolvers => {
    const found = gates.get(word) ?? withResolvers()
    gates.set(word, found)
    return found
  }

  async function connect(): Promise<StreamableHTTPServerTransport> {
    const server = instance(gate)
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => noted(randomUUID()),
      onsessioninitialized: (id) => {
        ids.push(id)
        live.set(id, transport)
      },
      onsessionclosed: (id) => {
        live.delete(id)
      },
    })
    server.server.oninitialized = () => capabilities.push(server.server.getClientCapabilities())
    server.server.setNotificationHandler(RootsListChangedNotificationSchema, () => {
      counts.changes++
    })
    // The SDK's own types disagree under exactOptionalPropertyTypes.
    await server.connect(transport)
    return transport
  }

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (request.method === 'GET' && options.serves === 'post') {
      response.writeHead(405, { allow: 'POST, DELETE' }).end()
      return
    }
    const body = request.method === 'POST' ? await readJsonBody(request) : undefined
    const id = headerOf(request, 'mcp-session-id')
    const known = id === undefined ? undefined : live.get(id)
    if (known !== undefined) {
      if (request.method === 'GET') counts.streams++
      await known.handleRequest(request, response, body)
    } else if (id === undefined && isInitializeRequest(body)) {
      await (await connect()).handleRequest(request, response, body)
    } else sendRpcError(response, 404, { code: -32001, message: 'Session not found' })
  }
  const fixture = await listenOnLoopback((request, response) => {
    handle(request, response).catch(() => response.destroy())
  })
  const drop = async (): Promise<void> => {
    const transports = [...live.values()]
    live.clear()
    await Promise.all(transports.map((transport) => transport.close()))
  }
  return {
    url: `http://127.0.0.1:${fixture.port}/mcp`,
    capabilities,
    sessions: ids,
    get changes() {
      return counts.changes
    },
    get streams() {
      return counts.streams
    },
    release: (word) => gate(word).resolve(),
    drop,
    async stop() {
      await drop()
      await fixture.close()
    },
  }
}

interface PromiseWithResolvers {
  readonly promise: Promise<void>
  readonly resolve: () => void
}

/** What `Promise.withResolvers` is in newer versions of Node. */
function withResolvers(): PromiseWithResolvers {
  const settle: (() => void)[] = []
  const promise = new Promise<void>((resolve) => settle.push(resolve))
  return { promise, resolve: () => settle.forEach((resolve) => resolve()) }
}

function say(text: string) {
  return { content: [{ type: 'text' as const, text }] }
}

function instance(gate: (word: string) => PromiseWithResolvers): McpServer {
  const server = new McpServer({ name: 'roots-server', version: '1' })
  const timeout = ROOTS_TIMEOUT_MS

  server.registerTool('where_by_stream', {}, async () =>
    say(JSON.stringify((await server.server.listRoots({}, { timeout })).roots)),
  )
  server.registerTool('where_by_call', {}, async ({ sendRequest }) =>
    say(
      JSON.stringify(
        (await sendRequest({ method: 'roots/list' }, ListRootsResultSchema, { timeout })).roots,
      ),
    ),
  )
  server.registerTool('ask', {}, async ({ sendRequest }) => {
    const params = {
      message: 'Your name?',
      requestedSchema: {
        type: 'object' as const,
        properties: { name: { type: 'string' as const } },
      },
    }
    const answer = await sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema)
    return say(JSON.stringify(answer))
  })
  const roots = async (): Promise<string> => {
    const [root] = (await server.server.listRoots({}, { timeout })).roots
    return fileURLToPath(root?.uri ?? '')
  }
  server.registerTool(
    'write',
    {
      inputSchema: {
        files: z.record(z.string(), z.string()),
        says: z.string().optional(),
        then_waits_for: z.string().optional(),
        fails: z.boolean().optional(),
      },
    },
    async ({ files, says = 'written', then_waits_for: word, fails = false }) => {
      const root = await roots()
      for (const [path, text] of Object.entries(files)) {
        // oxlint-disable-next-line no-await-in-loop -- their order is looked at
        await put(join(root, path), text)
      }
      if (word !== undefined) await gate(word).promise
      return { ...say(says), isError: fails }
    },
  )
  server.registerTool('read', { inputSchema: { path: z.string() } }, async ({ path }) => {
    return say(`${path}: ${await readFile(path, 'utf8')}`)
  })
  const file = { path: z.string(), text: z.string() }
  server.registerTool('write_at', { inputSchema: file }, async ({ path, text }) => {
    await put(path, text)
    return say(`written to ${path}`)
  })
  server.registerTool('ruin', { inputSchema: { target: z.string() } }, async ({ target }) => {
    const root = await roots()
    await symlink(target, join(root, 'link.txt'))
    await symlink(dirname(target), join(root, 'directory-link'))
    execFileSync('mkfifo', [join(root, 'pipe.txt')])
    await put(join(root, 'huge.bin'), '')
    // Sparse: it takes no room here, and would where it is copied to.
    await truncate(join(root, 'huge.bin'), 8 * 1024 ** 3)
    await put(join(root, 'a\nb\u0007\u202E.txt'), 'odd')
    await put(join(root, 'half.txt.part'), 'half')
    await put(join(root, '.hidden'), 'hidden')
    await put(join(root, 'uploads/x/planted.txt'), 'planted')
    return say('ruined')
  })
  server.registerTool('flood', { inputSchema: { count: z.number() } }, async ({ count }) => {
    const root = await roots()
    for (let at = 0; at < count; at += 500) {
      const names = Array.from({ length: Math.min(500, count - at) }, (_, index) => at + index)
      // oxlint-disable-next-line no-await-in-loop -- not all at once
      await Promise.all(names.map((name) => writeFile(join(root, `${name}.txt`), String(name))))
    }
    return say('flooded')
  })
  return server
}

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}
