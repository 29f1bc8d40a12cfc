// Starts, watches and stops the programs that the other scripts run. Plain Node, no packages.

import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { projectRoot, SetupError } from './setup.mjs'

/** The adapter's entry point, compiled. */
export const adapterMain = join(projectRoot, 'dist', 'primary', 'main.js')

const START_LIMIT_MS = 60_000
const STOP_LIMIT_MS = 15_000
const KEPT_OUTPUT_CHARS = 8_192

/** A running program. Made by `startService`. */
class Service {
  #child
  #output = ''
  /** Settles with a sentence about how it ended; never rejects. */
  exited

  constructor(options) {
    this.name = options.name
    // A process group of its own: Ctrl-C goes to whole groups, and this script decides who stops first.
    this.#child = spawn(options.command, options.args, {
      cwd: options.cwd ?? projectRoot,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', options.quiet === true ? 'pipe' : 'inherit'],
      detached: true,
    })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text) => {
        this.#output = (this.#output + text).slice(-KEPT_OUTPUT_CHARS)
      })
    }
    // A program that is gone takes no input; `exited` tells of that.
    this.#child.stdin.on('error', () => undefined)
    this.exited = new Promise((settle) => {
      this.#child.once('error', (error) => settle(`could not be started: ${error.message}`))
      this.#child.once('close', (code, signal) =>
        settle(signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`),
      )
    })
  }

  get pid() {
    return this.#child.pid
  }

  /** The latest of what it printed. */
  get output() {
    return this.#output
  }

  /** Polls until `check` answers something; throws when the program ends, the signal is aborted, or it takes too long. */
  async until(check, signal) {
    let ended
    void this.exited.then((how) => (ended = how))
    const deadline = Date.now() + START_LIMIT_MS
    while (true) {
      // oxlint-disable-next-line no-await-in-loop -- polling
      const found = await check()
      if (found !== undefined) return found
      const late = Date.now() > deadline ? 'did not get ready in time' : undefined
      const why = signal?.aborted ? 'was told to stop' : (ended ?? late)
      if (why !== undefined) {
        throw new SetupError(
          `The ${this.name} ${why}.${this.#output && `\n${this.#output.trimEnd()}`}`,
        )
      }
      // oxlint-disable-next-line no-await-in-loop -- polling
      await delay(20)
    }
  }

  /** Asks it to stop, and ends it when it does not. */
  async stop() {
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT_MS)
    await this.exited
    clearTimeout(timer)
  }
}

/**
 * Starts a program and answers it when it has printed `ready`. `options`: name, command, args, env, cwd, ready (a RegExp), quiet (keeps its
 * messages for the error in place of showing them), signal (gives up).
 */
export async function startService(options) {
  const service = new Service(options)
  try {
    service.ready = await service.until(
      () => options.ready.exec(service.output) ?? undefined,
      options.signal,
    )
  } catch (error) {
    await service.stop()
    throw error
  }
  return service
}

/** Starts the adapter with a configuration file; answers the service and its base URL. Port 0 takes a free one. */
export async function startAdapter({ name = 'adapter', config, port, env, quiet, signal }) {
  const service = await startService({
    name,
    command: process.execPath,
    args: [adapterMain, '--config', config, '--port', String(port)],
    // PORT is this script's setting and may be 0, which the file may not say.
    env: { ...env, PORT: undefined },
    ready: /listening on (\S+):(\d+)/,
    quiet,
    signal,
  })
  const url = `http://127.0.0.1:${service.ready[2]}`
  try {
    await service.until(async () => ((await isReady(url)) ? true : undefined), signal)
  } catch (error) {
    await service.stop()
    throw error
  }
  return { service, url }
}

/** The example upstream, with the folder in which its tools may read and write. `ready[1]` is its address, such as `127.0.0.1:8933`. */
export function startReportServer({ port = 0, filesFolder, quiet, signal }) {
  return startService({
    name: 'report server',
    command: process.execPath,
    args: [
      join(projectRoot, 'examples/report-server/server.mjs'),
      `--port=${port}`,
      `--files=${filesFolder}`,
    ],
    env: { STOP_WITH_STDIN: '1' },
    ready: /listening on (\S+)/,
    quiet,
    signal,
  })
}

/** The example upstream with the adapter in front; `stop` ends the adapter first, so that what runs can finish. */
export async function startReportStack({ port, dataFolder, quiet, signal }) {
  const upstream = await startReportServer({
    filesFolder: join(dataFolder, 'sessions'),
    quiet,
    signal,
  })
  try {
    const adapter = await startAdapter({
      config: 'examples/report.yaml',
      port,
      env: { ADAPTER_DATA: dataFolder, REPORT_SERVER_PORT: portOf(upstream) },
      quiet,
      signal,
    })
    return {
      adapterUrl: adapter.url,
      upstreamUrl: `http://${upstream.ready[1]}/mcp`,
      services: [adapter.service, upstream],
    }
  } catch (error) {
    await upstream.stop()
    throw error
  }
}

/** The port in what a service printed when it was ready. */
export function portOf(service) {
  return service.ready[1].split(':').at(-1)
}

/** Stops services one after the other, in the order given. */
export async function stopAll(services) {
  for (const service of services) {
    // oxlint-disable-next-line no-await-in-loop -- the order is the point
    await service.stop()
  }
}

/** Throws an error that says what to do unless the port of 127.0.0.1 can be taken. */
export async function checkPortFree(port, howToChange) {
  const code = await new Promise((settle) => {
    const probe = createServer()
    probe.once('error', (error) => settle(error.code))
    probe.listen(port, '127.0.0.1', () => probe.close(() => settle(undefined)))
  })
  if (code === undefined) return
  const why =
    code === 'EADDRINUSE' ? 'is in use by another program' : `cannot be listened on (${code})`
  throw new SetupError(`Port ${port} ${why}.\n${howToChange}`)
}

/** A port of 127.0.0.1 that nothing listens on. */
export async function freePort() {
  return new Promise((settle, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => settle(port))
    })
  })
}

/** The port of an environment variable; throws when it is no port. */
export function portFromEnvironment(name, fallback) {
  const text = process.env[name] ?? ''
  if (text === '') return fallback
  const port = Number(text)
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port
  throw new SetupError(
    `${name} must be a port number from 0 (any free port) to 65535, not ${text}.`,
  )
}

/** A signal that is aborted by the first Ctrl-C, SIGTERM or closed terminal. npm passes Ctrl-C on a second time: further ones count for nothing. */
export function stopSignal() {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => controller.abort())
  return controller.signal
}

/** Waits for the stop signal (undefined) or for a service that ends by itself (a sentence about it). */
export async function untilStopped(services, signal) {
  const ends = services.map(async (service) => `The ${service.name} ${await service.exited}.`)
  const stopped = new Promise((settle) => {
    if (signal.aborted) settle(undefined)
    else signal.addEventListener('abort', () => settle(undefined), { once: true })
  })
  return Promise.race([stopped, ...ends])
}

/** Whether /readyz answers 200. */
export async function isReady(url) {
  const timeout = AbortSignal.timeout(2_000)
  const answer = await fetch(`${url}/readyz`, { signal: timeout }).catch(() => undefined)
  return answer?.ok === true
}
