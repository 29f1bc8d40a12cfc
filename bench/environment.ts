/** What the run ran on, for the report: numbers without it mean nothing. */
import { execFileSync } from 'node:child_process'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'

import { nginxVersion } from './support/nginx.ts'

/** Name and value, in the order of the report. */
export type Environment = readonly (readonly [name: string, value: string])[]

/** Reads it; call it before the load. */
export function readEnvironment(mode: string): Environment {
  const memoryGib = (totalmem() / 1_073_741_824).toFixed(0)
  return [
    ['date', new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC'],
    ['run', mode],
    ['processor', `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} available`],
    ['memory', `${memoryGib} GiB`],
    ['system', `${process.platform} ${release()}`],
    [
      'load before',
      loadavg()
        .map((load) => load.toFixed(2))
        .join(' '),
    ],
    ['Node.js', process.versions.node],
    ['nginx', nginxVersion() ?? 'not installed'],
    ['redis', firstLine('redis-server', ['--version'])],
  ]
}

function firstLine(command: string, args: readonly string[]): string {
  try {
    const text = execFileSync(command, [...args], { encoding: 'utf8' })
    return /v=(\S+)/.exec(text)?.[1] ?? text.split('\n', 1)[0] ?? ''
  } catch {
    return 'not installed'
  }
}
