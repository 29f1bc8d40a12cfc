// The process of the faulty upstream over stdio. Looks at each request into the folder that it is given for how to behave, and leaves its pid there.

import { existsSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { resultOf } from './faulty-upstream.ts'

const folder = process.argv[2] ?? '.'
const own = join(folder, `${process.pid}.pid`)
const order = (): { operation?: string; fault?: string } => {
  const file = join(folder, 'order.json')
  // Whoever wrote it is this test's.
  return existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as { operation?: string; fault?: string })
    : {}
}

let drip: NodeJS.Timeout | undefined

if (order().fault === 'refuses') process.exit(1)
writeFileSync(own, '')
process.on('exit', () => {
  if (existsSync(own)) unlinkSync(own)
})
process.on('SIGTERM', () => process.exit())

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, method } = JSON.parse(line) as { id?: unknown; method?: string } // the adapter sends JSON-RPC
    if (drip !== undefined) {
      clearInterval(drip)
      drip = undefined
      process.stdout.write('\n')
    }
    const { operation, fault } = order()
    if (operation === method && fault !== undefined) {
      fail(fault)
      return
    }
    if (id !== undefined && method !== undefined)
      process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, result: resultOf(method) })}\n`)
  })
  .on('close', () => process.exit())

function fail(fault: string): void {
  if (fault === 'drips') drip = setInterval(() => process.stdout.write(' '), 100)
  else if (fault === 'resets') process.stdout.write('{"jsonrpc":', () => process.exit(1))
  else if (fault === 'nonsense') process.stdout.write('the words of the upstream\n')
  else if (fault === 'killed') process.kill(process.pid, 'SIGKILL')
}
