// Loaded into each thread of an adapter by the heap probe: on SIGUSR2 each collects its garbage and writes what is left into a file of its own.
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void // that is what the flag is for

const file = join(process.env['HEAP_PROBE_FOLDER'] ?? '.', `${process.pid}-${threadId}.json`)
let round = 0

function report(): void {
  const { heapUsed, external } = process.memoryUsage()
  writeFileSync(file, JSON.stringify({ round, bytes: heapUsed + external }))
}

function look(): void {
  round++
  // Twice: what finalizers let go of goes with the second.
  collectGarbage()
  collectGarbage()
  report()
}

const channel = new BroadcastChannel('heap-probe')
channel.addEventListener('message', look)
channel.unref()
report()
process.on('exit', () => rmSync(file, { force: true }))
if (isMainThread) {
  process.on('SIGUSR2', () => {
    channel.postMessage('look')
    look()
  })
}
