// `npm start`: the adapter with the example upstream, in one command on a fresh clone. With arguments (`npm start -- --config my.yaml`) the
// adapter alone gets them. PORT chooses the port, ADAPTER_DATA the folder of files and state (default `.data`).

import { spawn } from 'node:child_process'
import { resolve } from 'node:path'

import {
  adapterMain,
  checkPortFree,
  portFromEnvironment,
  startReportStack,
  stopAll,
  stopSignal,
  untilStopped,
} from './services.mjs'
import { ensureBuild, ensureDependencies, projectRoot, runMain, say } from './setup.mjs'

const DEFAULT_PORT = 8932

await runMain(async () => {
  const args = process.argv.slice(2)
  ensureDependencies()
  ensureBuild()
  return args.length > 0 ? runAdapter(args) : runExample()
})

async function runExample() {
  const port = portFromEnvironment('PORT', DEFAULT_PORT)
  const dataFolder = resolve(projectRoot, process.env.ADAPTER_DATA || '.data')
  await checkPortFree(
    port,
    'Choose another one, such as PORT=9000 npm start (PORT=0 takes any free one).',
  )
  const signal = stopSignal()
  const stack = await startReportStack({ port, dataFolder, signal })
  say(describe(stack, dataFolder))
  const ended = await untilStopped(stack.services, signal)
  say(ended === undefined ? '\nStopping' : `\n${ended} Stopping the rest.`)
  await stopAll(stack.services)
  say('Stopped')
  return ended === undefined ? 0 : 1
}

function describe({ adapterUrl, upstreamUrl }, dataFolder) {
  const url = `${adapterUrl}/mcp/report`
  const { port } = new URL(adapterUrl)
  const demo = Number(port) === DEFAULT_PORT ? 'npm run demo' : `PORT=${port} npm run demo`
  const json = JSON.stringify({ mcpServers: { report: { type: 'http', url } } })
  return `
remote-mcp-adapter is running.

  What runs
    adapter        ${adapterUrl}   (settings: examples/report.yaml)
    report server  ${upstreamUrl}   (the example upstream; clients never talk to it)
    files, state   ${dataFolder}

  Connect an MCP client to
    ${url}

  Claude Code
    claude mcp add --transport http report ${url}

  Clients with an mcp.json
    ${json}

  Next, in a second terminal
    ${demo}

Ctrl-C stops everything.`
}

/** The adapter as the person asked for it; answers its exit code. */
async function runAdapter(args) {
  const signal = stopSignal()
  // Detached, so that Ctrl-C reaches it once and through us: the terminal and npm would both send it.
  const child = spawn(process.execPath, [adapterMain, ...args], {
    stdio: 'inherit',
    detached: true,
  })
  signal.addEventListener('abort', () => child.kill('SIGTERM'))
  return new Promise((settle, reject) => {
    child.once('error', reject)
    child.once('close', (code) => settle(code ?? 1))
  })
}
