/** An adapter with one worker in front of a file server and of two upstreams that a test has misbehave: one answers by scripts, one with any bytes. */
import { createServer, type Socket } from 'node:net'

import type { Test } from 'tap'

import { FileRig } from './file-rig.ts'
import { beside } from './neighbour.ts'
import {
  beginStream,
  startScriptedUpstream,
  type ScriptedUpstream,
} from './upstreams/scripted-upstream.ts'

const MAX_GROWTH_MIB = 256

/** See the file comment. Ended when the test ends. */
export class HostileRig {
  readonly files: FileRig
  readonly scripted: ScriptedUpstream
  /** Open connections to the upstream of bytes, and its port. */
  readonly sockets: ReadonlySet<Socket>
  readonly rawPort: number
  /** Answers each connection with whatever bytes a test has chosen, once a request has come. */
  raw: (socket: Socket) => void = (socket) => socket.destroy()
  readonly #t: Test

  private constructor(
    t: Test,
    parts: {
      files: FileRig
      scripted: ScriptedUpstream
      sockets: ReadonlySet<Socket>
      rawPort: number
    },
  ) {
    this.#t = t
    this.files = parts.files
    this.scripted = parts.scripted
    this.sockets = parts.sockets
    this.rawPort = parts.rawPort
    this.behave()
  }

  static async start(t: Test): Promise<HostileRig> {
    const scripted = await startScriptedUpstream({ capabilities: { tools: {}, resources: {} } })
    const sockets = new Set<Socket>()
    const started: { rig: HostileRig | undefined } = { rig: undefined }
    const bytes = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => sockets.delete(socket))
      socket.once('data', () => started.rig?.raw(socket))
    })
    await new Promise<void>((resolve) => bytes.listen(0, '127.0.0.1', resolve))
    const address = bytes.address()
    const rawPort = typeof address === 'object' && address !== null ? address.port : 0
    const files = await FileRig.start(sections(scripted.url, rawPort))
    t.teardown(async () => {
      await files.stop()
      await scripted.stop()
      for (const socket of sockets) socket.destroy()
      bytes.close()
    })
    started.rig = new HostileRig(t, { files, scripted, sockets, rawPort })
    return started.rig
  }

  /** The endpoint of the upstream with scripts. */
  get url(): string {
    return `${this.files.url}/mcp/hostile`
  }

  /** The endpoint of the upstream of bytes. */
  get rawUrl(): string {
    return `${this.files.url}/mcp/raw`
  }

  /** Without mischief; it has a standalone stream, because one that had none would not be asked again. */
  behave(): void {
    this.scripted.scripts.clear()
    this.scripted.scripts.set('GET', (_request, response) => beginStream(response))
  }

  /** See `beside`. */
  beside(title: string, misbehave: (t: Test) => Promise<void>): void {
    beside(this.#t, this.files, title, MAX_GROWTH_MIB, async (t) => {
      try {
        await misbehave(t)
      } finally {
        this.behave()
      }
    })
  }
}

function sections(scriptedUrl: string, rawPort: number): Parameters<typeof FileRig.start>[0] {
  return {
    core: {
      workers: 1,
      max_response_message_bytes: '4Mi',
      // Each of many failures in a row is looked at, and whatever arrives is a test's own.
      upstream_ping: { enabled: false },
      max_start_wait_seconds: 0,
    },
    moreServers: [
      {
        id: 'hostile',
        mount_path: '/mcp/hostile',
        upstream: { url: scriptedUrl, hold_stream: true },
        tool_defaults: { tool_call_timeout_seconds: 2 },
        // So that listings are read.
        disabled_tools: ['hidden'],
        adapters: [
          {
            type: 'artifact_producer',
            tools: ['make'],
            output_path_argument: 'path',
            output_locator: { mode: 'regex' },
          },
        ],
      },
      {
        id: 'raw',
        mount_path: '/mcp/raw',
        upstream: { url: `http://127.0.0.1:${rawPort}/mcp` },
        tool_defaults: { tool_call_timeout_seconds: 2 },
      },
    ],
  }
}
