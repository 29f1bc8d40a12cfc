// The faulty upstream of the fault matrix over stdio: a process for each session, told by a file how to behave.

import { readdirSync, rmSync } from 'node:fs'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { eventually } from '../eventually.ts'
import type { FaultyUpstream } from './faulty-upstream.ts'

const MAIN = fileURLToPath(new URL('faulty-stdio-main.js', import.meta.url))

/** Starts nothing: the adapter does. */
export async function startFaultyStdio(): Promise<FaultyUpstream> {
  const folder = await mkdtemp(join(tmpdir(), 'adapter-faulty-'))
  const write = async (order: object): Promise<void> => {
    // Whole, whenever it is read.
    await writeFile(join(folder, 'next.json'), JSON.stringify(order))
    await rename(join(folder, 'next.json'), join(folder, 'order.json'))
  }
  /** Those that are alive; one that was killed could not take its name away. */
  const pids = (): number[] =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.pid'))
      .map((name) => Number(name.slice(0, -'.pid'.length)))
      .filter((pid) => {
        if (isThere(pid)) return true
        rmSync(join(folder, `${pid}.pid`), { force: true })
        return false
      })
  const die = async (): Promise<void> => {
    for (const pid of pids()) process.kill(pid, 'SIGKILL')
    await eventually('its processes are gone', () => pids().length === 0)
  }
  return {
    section: { transport: 'stdio', command: process.execPath, args: [MAIN, folder] },
    fail: async (operation, fault) => {
      await write(fault === 'restarts' ? {} : { operation, fault })
      if (fault === 'refuses' || fault === 'restarts') await die()
    },
    heal: () => write({}),
    arrived: () => 0,
    busy: () => pids().length,
    stop: async () => {
      await die()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** True for one that ended, too, until the adapter has seen it. */
function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
