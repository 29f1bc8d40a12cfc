// `npm run cluster`: several replicas that are one adapter, on this machine: Redis, replicas on a shared folder, HAProxy in front, and the
// example upstream behind (docs/cluster.md). CLUSTER_REPLICAS chooses how many (1 to 9), PORT the one port that clients use.

import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { LocalCluster } from './local-cluster.mjs'
import { checkPortFree, freePort, portFromEnvironment, stopSignal } from './services.mjs'
import {
  ensureBuild,
  ensureDependencies,
  ensurePrograms,
  projectRoot,
  runMain,
  say,
  SetupError,
} from './setup.mjs'

const DEFAULT_PORT = 8932
const MOST_REPLICAS = 9
const dataFolder = join(projectRoot, '.data')

await runMain(async () => {
  const count = replicaCount()
  ensureDependencies()
  ensureBuild()
  const programs = ensurePrograms('redis-server', 'haproxy')
  const wanted = portFromEnvironment('PORT', DEFAULT_PORT)
  await checkPortFree(
    wanted,
    'Choose another one, such as PORT=9000 npm run cluster (PORT=0 takes any free one).',
  )
  const port = wanted === 0 ? await freePort() : wanted
  // Not with the system's temporary files, which replicas on several machines could not share: they would warn of that.
  await mkdir(dataFolder, { recursive: true })
  const folder = await mkdtemp(join(dataFolder, 'cluster-'))
  const signal = stopSignal()
  const cluster = new LocalCluster({ count, programs, port, folder })
  let failure
  try {
    await cluster.start(signal)
    say(describe(cluster, { count, port }))
    failure = await cluster.untilStopped(signal)
    say(failure === undefined ? '\nStopping' : `\n${failure}\nStopping the rest.`)
  } finally {
    await cluster.stop()
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  say('Stopped')
  return failure === undefined ? 0 : 1
})

function describe(cluster, { count, port }) {
  const url = `${cluster.url}/mcp/report`
  const demo = port === DEFAULT_PORT ? 'npm run demo' : `PORT=${port} npm run demo`
  const parts = cluster.parts()
  const rows = parts.map(([name, address, pid, settings]) =>
    `    ${name.padEnd(14)} ${address.padEnd(27)} pid ${String(pid).padEnd(8)} ${settings}`.trimEnd(),
  )
  const [, [, , firstReplica]] = parts
  return `
${count === 1 ? 'One replica is' : `${count} replicas are`} running as one adapter.

  What runs
${rows.join('\n')}
    files          ${cluster.sharedFolder}

  Connect an MCP client to
    ${url}

  Next, in a second terminal
    ${demo}

  Then end a replica and run the demo again: nobody misses it, and it comes back
    kill -9 ${firstReplica}

Ctrl-C stops everything.`
}

function replicaCount() {
  const text = process.env.CLUSTER_REPLICAS || '3'
  const count = Number(text)
  if (Number.isInteger(count) && count >= 1 && count <= MOST_REPLICAS) return count
  throw new SetupError(`CLUSTER_REPLICAS must be a number from 1 to ${MOST_REPLICAS}, not ${text}.`)
}
