/** Looks at the upstreams from where the adapter will run: whether something listens there, and whether there is such a program. Nothing is asked or started. */
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { delimiter, join, resolve } from 'node:path'

import type { Config, ServerConfig } from '../../shared/config/config.ts'
import { ok, problem, reasonOf, warning, type Finding } from './finding.ts'

/** Longest wait for a connection, in milliseconds. */
const MAX_CONNECT_MS = 5_000
const SUBJECT = 'upstream'
/** Where programs are looked for when nothing says so. */
const USUAL_PATH = '/usr/bin:/bin'

/** One finding for each server, in their order. */
export function checkUpstreams({ servers }: Pick<Config, 'servers'>): Promise<Finding[]> {
  return Promise.all(
    servers.map((server) =>
      server.upstream.transport === 'stdio' ? checkProgram(server) : checkPlace(server),
    ),
  )
}

async function checkPlace({ id, upstream }: ServerConfig): Promise<Finding> {
  const { url, proxyUrl, connectTimeoutSeconds } = upstream
  const { protocol, hostname, port } = new URL(proxyUrl ?? url ?? '')
  const host = hostname.replace(/^\[|\]$/g, '')
  const usualPort = protocol === 'https:' ? 443 : 80
  const place = `${hostname}:${port === '' ? usualPort : port}`
  const what = proxyUrl === null ? 'its upstream' : 'the proxy before its upstream'
  const failure = await tryToConnect(
    { host, port: port === '' ? usualPort : Number(port) },
    Math.min(connectTimeoutSeconds * 1_000, MAX_CONNECT_MS),
  )
  return failure === undefined
    ? ok(SUBJECT, `${id}: ${what} listens at ${place}`)
    : warning(
        SUBJECT,
        `${id}: ${what} at ${place} can't be reached now (${failure}): its clients get errors until it runs; check servers[${id}].upstream.${proxyUrl === null ? 'url' : 'proxy_url'}`,
      )
}

/** Answers what was in the way. */
function tryToConnect(
  to: { readonly host: string; readonly port: number },
  limitMs: number,
): Promise<string | undefined> {
  return new Promise((settle) => {
    const socket = connect(to)
    const end = (failure?: string): void => {
      clearTimeout(timer)
      socket.destroy()
      settle(failure)
    }
    const timer = setTimeout(() => end(`no connection within ${limitMs / 1_000} s`), limitMs)
    socket.once('connect', () => end())
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? reasonOf(error)))
  })
}

async function checkProgram({ id, upstream }: ServerConfig): Promise<Finding> {
  const command = upstream.command ?? ''
  for (const path of placesOf(command, upstream)) {
    // oxlint-disable-next-line no-await-in-loop -- the first one counts
    if (await isProgram(path)) return ok(SUBJECT, `${id}: its program is ${path}`)
  }
  const field = `servers[${id}].upstream.command`
  const advice = /\s/.test(command)
    ? `${field} is one program: its arguments belong into upstream.args`
    : `give ${field} as a path, or set PATH`
  return problem(SUBJECT, `${id}: there is no program ${command}: ${advice}`)
}

function placesOf(command: string, { cwd, env, inheritEnv }: ServerConfig['upstream']): string[] {
  if (command.includes('/')) return [resolve(cwd ?? '.', command)]
  const inherited = inheritEnv.includes('PATH') ? process.env['PATH'] : undefined
  const path = env['PATH'] ?? inherited ?? USUAL_PATH
  return path.split(delimiter).map((folder) => join(folder, command))
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
