/** HAProxy in front of replicas, with the configuration that we recommend (`examples/haproxy.cfg`). */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { Test } from 'tap'

import { eventually } from './eventually.ts'

const TEMPLATE = fileURLToPath(new URL('../../../examples/haproxy.cfg', import.meta.url))

/** Where Debian keeps it, which the PATH of ordinary users does not hold. */
const PATH = `${process.env['PATH']}:/usr/sbin:/usr/local/sbin`

/** A running proxy. */
export interface Proxy {
  readonly url: string
  /** Whether it would send clients to the replica at this place (from 0). */
  sendsTo(index: number): Promise<boolean>
}

/** Starts a proxy on `port` in front of `replicaPorts`; resolves when it takes each of them for ready. Ended when the test ends. */
export async function startProxy(
  t: Test,
  port: number,
  replicaPorts: readonly number[],
): Promise<Proxy> {
  const directory = await mkdtemp(join(tmpdir(), 'adapter-proxy-'))
  const control = join(directory, 'control.sock')
  const file = join(directory, 'haproxy.cfg')
  await writeFile(
    file,
    configuration(await readFile(TEMPLATE, 'utf8'), port, replicaPorts, control),
  )
  const child = spawn('haproxy', ['-db', '-f', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH },
  })
  let output = ''
  const take = (chunk: Buffer): void => {
    output += chunk.toString('utf8')
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  let hasEnded = false
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      hasEnded = true
      resolve()
    }
    child.once('exit', end)
    child.once('error', (error) => {
      output += String(error)
      end()
    })
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    if (!t.passing()) t.comment(output)
    await rm(directory, { recursive: true, force: true })
  })
  const sendsTo = async (index: number): Promise<boolean> => {
    const state = await ask(control, 'show stat')
    const row = state.split('\n').find((line) => line.startsWith(`adapter,replica-${index + 1},`))
    return row?.split(',')[STATUS_COLUMN] === 'UP'
  }
  await eventually('HAProxy takes every replica for ready', async () => {
    if (hasEnded) throw new Error(`HAProxy ended:\n${output}`)
    const states = await Promise.all(
      replicaPorts.map((_, index) => sendsTo(index).catch(() => false)),
    )
    return states.every(Boolean)
  })
  return { url: `http://127.0.0.1:${port}`, sendsTo }
}

/** Of `show stat`: UP, DOWN, or on the way from one to the other, such as `UP 1/2`. */
const STATUS_COLUMN = 17

function configuration(
  template: string,
  port: number,
  replicaPorts: readonly number[],
  control: string,
): string {
  const servers = replicaPorts.map(
    (replicaPort, index) => `  server replica-${index + 1} 127.0.0.1:${replicaPort} check\n`,
  )
  const kept = template
    .replaceAll(/^ *server .*\n/gm, '')
    .replace(/^ *bind .*$/m, `  bind 127.0.0.1:${port}`)
    .replace(/^global$/m, `global\n  stats socket ${control} mode 600`)
  return `${kept.trimEnd()}\n${servers.join('')}`
}

/** Asks HAProxy's control socket. */
function ask(path: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(path)
    socket.setEncoding('utf8').on('data', (text: string) => {
      answer += text
    })
    socket.once('error', reject)
    socket.once('end', () => resolve(answer))
    socket.end(`${command}\n`)
  })
}
