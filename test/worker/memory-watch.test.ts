// How often the memory of server processes is looked at.
import { readFileSync } from 'node:fs'

import t from 'tap'

import { MemoryWatch } from '../../src/worker/upstream/bound/process/memory-watch.ts'
import { within } from '../support/eventually.ts'

const INTERVAL_MS = 2_000

/** Of this process: there is one with some memory. */
function ownGroup(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2])
}

t.test('there is one next look, whatever comes and goes during one', async (t) => {
  const waiting: (() => void)[] = []
  const real = setTimeout
  const never = real(() => {}, 0)
  t.capture(globalThis, 'setTimeout', (look: () => void, ms?: number) => {
    if (ms !== INTERVAL_MS) return real(look, ms)
    waiting.push(look)
    return never
  })
  const watch = new MemoryWatch(0)
  const group = ownGroup()
  watch.add(group, () => {})
  t.equal(waiting.length, 1)

  for (const time of ['first', 'second']) {
    waiting.shift()?.()
    // The last is gone and another is there before the look is over.
    watch.remove(group)
    const told = new Promise<number>((resolve) => watch.add(group, resolve))
    t.ok((await within('the look tells of the group', told)) > 0)
    await new Promise((resolve) => setImmediate(resolve))
    t.equal(waiting.length, 1, `after the ${time}`)
  }
  watch.remove(group)
  waiting.length = 0
  watch.add(group, () => {})
  t.equal(waiting.length, 1, 'looks begin anew after there was none to look at')
  watch.remove(group)
})
