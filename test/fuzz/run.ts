// npm run fuzz -- [--minutes 1] [--seed N] [--lanes 8] [--cpu 0.3]: fuzzes the HTTP surface of an adapter on this machine; one line a finding, a report at the end.
import { parseArgs } from 'node:util'

import { FuzzTarget } from './fuzz-target.ts'
import { HttpFuzzer } from './http-fuzzer.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    lanes: { type: 'string', default: '8' },
    cpu: { type: 'string', default: '0.3' },
  },
})
const endsAtMs = Date.now() + Number(values.minutes) * 60_000
let isInterrupted = false
process.once('SIGINT', () => {
  isInterrupted = true
})
process.once('SIGTERM', () => {
  isInterrupted = true
})

const target = await FuzzTarget.start()
const startedAtMs = Date.now()
const fuzzer = new HttpFuzzer(target, {
  seed: Number(values.seed),
  lanes: Number(values.lanes),
  cpuShare: Number(values.cpu),
  isOver: () => isInterrupted || Date.now() >= endsAtMs,
})
const progress = setInterval(() => print(false), 60_000)
await fuzzer.run()
clearInterval(progress)
print(true)
process.stdout.write(`the adapter ended with ${await target.stop()}\n`)
process.exitCode = fuzzer.findings.length === 0 ? 0 : 1

function print(isFinal: boolean): void {
  const report = {
    at: new Date().toISOString(),
    seed: Number(values.seed),
    minutes: Number(((Date.now() - startedAtMs) / 60_000).toFixed(1)),
    cases: fuzzer.cases,
    findings: fuzzer.findings.length,
    wellBehavedRounds: fuzzer.wellBehaved,
    memoryMib: isFinal ? fuzzer.memory : fuzzer.memory.at(-1),
    descriptors: isFinal ? fuzzer.descriptors : fuzzer.descriptors.at(-1),
    statuses: Object.fromEntries([...fuzzer.statuses].toSorted(([a], [b]) => a - b)),
    warnings: Object.fromEntries(target.warnings),
  }
  process.stdout.write(`${JSON.stringify(report)}\n`)
}
