// `npm run playwright`: a remote browser. Starts @playwright/mcp with Debian's Chromium and the adapter in front of it (docs/playwright.md).
// PORT chooses the adapter's port, ADAPTER_DATA the folder of files and state (default `.data/playwright`).

import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'

import {
  checkPortFree,
  portFromEnvironment,
  startAdapter,
  startService,
  stopAll,
  stopSignal,
  untilStopped,
} from './services.mjs'
import {
  ensureBuild,
  ensureDependencies,
  ensurePrograms,
  packageProgram,
  projectRoot,
  runMain,
  say,
} from './setup.mjs'

const DEFAULT_PORT = 8932
/** As in examples/playwright.yaml. */
const SERVER_ID = 'playwright'

await runMain(async () => {
  ensureDependencies()
  ensureBuild()
  const [chromium] = ensurePrograms('chromium')
  const port = portFromEnvironment('PORT', DEFAULT_PORT)
  const dataFolder = resolve(projectRoot, process.env.ADAPTER_DATA || '.data/playwright')
  const changePort =
    'Choose another one, such as PORT=9000 npm run playwright (PORT=0 takes any free one).'
  await checkPortFree(port, changePort)
  const signal = stopSignal()
  const playwright = await startPlaywright({ chromium, dataFolder, signal })
  const services = [playwright]
  let ended
  try {
    const upstreamPort = playwright.ready[1]
    const env = { ADAPTER_DATA: dataFolder, PLAYWRIGHT_PORT: upstreamPort }
    const adapter = await startAdapter({ config: 'examples/playwright.yaml', port, env, signal })
    services.unshift(adapter.service)
    say(describe(adapter.url, upstreamPort, dataFolder))
    ended = await untilStopped(services, signal)
    say(ended === undefined ? '\nStopping' : `\n${ended} Stopping the rest.`)
  } finally {
    await stopAll(services)
  }
  say('Stopped')
  return ended === undefined ? 0 : 1
})

/** Playwright MCP on a free port; `ready[1]` is the port. */
async function startPlaywright({ chromium, dataFolder, signal }) {
  const workspace = join(dataFolder, 'workspace')
  const files = join(dataFolder, 'sessions', SERVER_ID)
  for (const folder of [workspace, files]) mkdirSync(folder, { recursive: true })
  return startService({
    name: 'Playwright server',
    command: packageProgram('playwright-mcp'),
    args: [
      '--host=127.0.0.1',
      '--port=0',
      `--executable-path=${chromium}`,
      '--headless',
      '--isolated',
      // Chromium's sandbox can't be had as root.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--caps=pdf',
      // The one folder besides its own that Playwright may read and write files in, whatever roots a client declares.
      `--output-dir=${files}`,
      '--file-paths=absolute',
      // Else it writes a snapshot file after every step and answers a link to it, which a remote client can't open. browser_snapshot answers the text.
      '--snapshot-mode=none',
    ],
    cwd: workspace,
    // Its default of 5 seconds ends the session, and the browser with it, when a client's stream is away for a moment.
    env: { PLAYWRIGHT_MCP_PING_TIMEOUT_MS: process.env.PLAYWRIGHT_MCP_PING_TIMEOUT_MS ?? '30000' },
    ready: /Listening on http:\/\/\S+:(\d+)/,
    // It tells where it listens on standard error, with instructions that would lead past the adapter.
    quiet: true,
    signal,
  })
}

function describe(adapterUrl, upstreamPort, dataFolder) {
  const url = `${adapterUrl}/mcp/${SERVER_ID}`
  const json = JSON.stringify({ mcpServers: { playwright: { type: 'http', url } } })
  return `
A remote browser is running.

  What runs
    adapter     ${adapterUrl}   (settings: examples/playwright.yaml)
    Playwright  http://localhost:${upstreamPort}/mcp   (the upstream; clients never talk to it)
    files       ${dataFolder}

  Connect an MCP client to
    ${url}

  Claude Code
    claude mcp add --transport http playwright ${url}

  Clients with an mcp.json
    ${json}

  Next, ask your client's model, for example
    "Open https://example.com, take a screenshot, and save the page as a PDF. Give me the download links."

Ctrl-C stops everything.`
}
