/** What a `NumberMap` promises: it is a map, and it forgets. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { array, assert, constant, nat, oneof, property, record } from 'fast-check'
import t from 'tap'

import { NumberMap } from '../../src/shared/number-map.ts'

/** Few enough numbers to collide, some of them beyond 32 bits. */
const key = oneof(
  nat(200),
  nat(200).map((small) => small + 2 ** 32),
  nat({ max: Number.MAX_SAFE_INTEGER }),
)
const step = oneof(
  { weight: 3, arbitrary: record({ kind: constant('set' as const), key }) },
  { weight: 2, arbitrary: record({ kind: constant('delete' as const), key }) },
)

function sorted(entries: Iterable<[number, number]>): string {
  return JSON.stringify([...entries].toSorted(([a], [b]) => a - b))
}

t.test('it holds what a Map would hold', (t) => {
  assert(
    property(array(step, { maxLength: 600, size: 'max' }), (steps) => {
      const ours = new NumberMap<number>()
      const model = new Map<number, number>()
      for (const [value, { kind, key: at }] of steps.entries()) {
        if (kind === 'set') {
          ours.set(at, value)
          model.set(at, value)
        } else if (ours.delete(at) !== model.delete(at)) return false
      }
      return (
        ours.size === model.size &&
        sorted(ours.entries()) === sorted(model.entries()) &&
        steps.every(({ key: at }) => ours.get(at) === model.get(at))
      )
    }),
  )
  t.end()
})

t.test('it is empty after clear, and can be used again', (t) => {
  const map = new NumberMap<string>()
  for (let i = 0; i < 1_000; i++) map.set(i, 'old')
  map.clear()
  t.equal(map.size, 0)
  t.strictSame(map.values(), [])
  map.set(7, 'new')
  t.strictSame(map.entries(), [[7, 'new']])
  t.equal(map.get(8), undefined)
  t.end()
})

t.test('what was deleted is freed by the next minor collection, however old the map is', (t) => {
  setFlagsFromString('--expose-gc')
  // The flag defines it in new contexts.
  const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void
  const map = new NumberMap<object>()
  let next = 0
  /** Requests that come and go, 64 at a time, 1 600 bytes each. */
  const pass = (rounds: number): void => {
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < 64; i++)
        map.set(
          next++,
          Array.from({ length: 200 }, () => round),
        )
      for (let i = 0; i < 64; i++) map.delete(next - 64 + i)
    }
  }
  pass(100)
  // Makes the map old, as idleness does.
  collect()
  const before = getHeapStatistics().used_heap_size
  pass(200)
  collect({ type: 'minor' })
  collect({ type: 'minor' })
  const kept = getHeapStatistics().used_heap_size - before
  t.ok(kept < 5_000_000, `${kept} bytes are kept of 20 480 000`)
  t.end()
})
