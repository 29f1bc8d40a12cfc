/** The real Playwright MCP server with headless Chromium, as an upstream. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { eventually } from '../eventually.ts'

const CLI = fileURLToPath(
  new URL('../../../../node_modules/@playwright/mcp/cli.js', import.meta.url),
)

/** A running server. */
export interface Playwright {
  /** The MCP endpoint, by the name that it accepts in Host headers. */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** SIGTERM; resolves when it is gone, and its browsers with it. */
  stop(): Promise<void>
  /** SIGKILL. */
  kill(): Promise<void>
}

/** Starts a server that may use files below `directory`; rejects with its output when it ends. */
export async function startPlaywright(
  directory: string,
  options: { readonly port?: number; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Playwright> {
  const executable = process.env['CHROMIUM'] ?? '/usr/bin/chromium'
  const child: ChildProcess = spawn(
    process.execPath,
    [
      CLI,
      '--headless',
      '--isolated',
      '--no-sandbox',
      '--caps=pdf',
      `--executable-path=${executable}`,
      '--host=127.0.0.1',
      `--port=${options.port ?? 0}`,
    ],
    {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
    },
  )
  let output = ''
  const take = (chunk: Buffer): void => {
    output += chunk.toString('utf8')
  }
  child.stdout?.on('data', take)
  child.stderr?.on('data', take)
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
  })
  const port = (): string | undefined =>
    /http:\/\/(?:127\.0\.0\.1|localhost):(\d+)/.exec(output)?.[1]
  await eventually(
    'Playwright listens',
    () => {
      if (child.exitCode !== null) throw new Error(`Playwright ended:\n${output}`)
      return port() !== undefined
    },
    20_000,
  )
  const end = (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal)
    return exited
  }
  return {
    url: `http://localhost:${port()}/mcp`,
    port: Number(port()),
    pid: child.pid ?? -1,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  }
}

/** A server section for it, with id `playwright`, mounted at `/mcp/playwright`. `directory` is where it was started, `more` goes to the section `upstream`. */
export function playwrightServer(
  url: string,
  directory: string,
  more: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  return {
    id: 'playwright',
    mount_path: '/mcp/playwright',
    upstream: { url, workspace_root: directory, ...more },
    adapters: [
      { type: 'upload_consumer', tools: ['browser_file_upload'], file_path_argument: 'paths' },
      {
        type: 'artifact_producer',
        tools: ['browser_take_screenshot', 'browser_pdf_save'],
        output_path_argument: 'filename',
        output_locator: { mode: 'regex' },
      },
    ],
  }
}
