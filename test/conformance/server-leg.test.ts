// The suite as client, the adapter as server: what the suite finds at the adapter has to be, check by check, what it finds
// at the upstream itself in the same run. A pass mark alone would not show a check that has gone missing.

import t, { type Test } from 'tap'
import { startEverythingServer } from '../support/upstreams/everything-server.ts'
import {
  isPassed,
  objections,
  requiredScenarios,
  runConformance,
  verdicts,
  type ConformanceRun,
} from './conformance-cli.ts'
import { startTargetOf, targetModule } from './target.ts'

t.setTimeout(600_000)

/** A scenario takes 2 s at most; one that hangs has to show as a failed check while the rest still runs. */
const scenarioTimeoutMs = 10_000

const upstream = await startEverythingServer()
const target = await startTargetOf(targetModule, upstream.url)
t.teardown(async () => {
  await target.stop()
  await upstream.stop()
})

const requirementSets = [
  { revision: '2025-11-25', scored: 30 },
  { revision: '2026-07-28', scored: 37 },
]
for (const { revision, scored } of requirementSets) {
  t.test(
    `every check of the ${revision} requirements ends as it does without the adapter`,
    async (t) => {
      const direct = await runSame(t, '--requirements', revision)
      const required = await requiredScenarios(revision, 'server')
      const passed = required.filter((scenario) => isPassed(direct.scenarios.get(scenario)))
      t.equal(direct.exitCode, 0, 'the suite accepts the upstream')
      t.equal(passed.length, scored, `the upstream passes all ${scored} scored scenarios`)
      t.same(passed, required, 'none of them is another one')
    },
  )
}

const datedSuites = [
  { revision: '2025-03-26', scenarios: 1 },
  { revision: '2025-06-18', scenarios: 27 },
]
for (const { revision, scenarios } of datedSuites) {
  t.test(
    `every check that applies to ${revision} ends as it does without the adapter`,
    async (t) => {
      const direct = await runSame(t, '--suite', 'all', '--spec-version', revision)
      t.equal(direct.scenarios.size, scenarios, 'the suite has as many scenarios as are known')
      t.same(objections(direct), [], 'the suite objects to nothing at the upstream')
    },
  )
}

/** Runs the same scenarios at the upstream and at the target, compares them, and returns the upstream's run. */
async function runSame(t: Test, ...args: readonly string[]): Promise<ConformanceRun> {
  const limits = ['--timeout', String(scenarioTimeoutMs)]
  const direct = await runConformance('server', '--url', upstream.url, ...limits, ...args)
  const through = await runConformance('server', '--url', target.url, ...limits, ...args)
  t.same(verdicts(through), verdicts(direct), 'the same checks have the same status', {
    objections: objections(through).filter((line) => !objections(direct).includes(line)),
  })
  t.equal(through.exitCode, direct.exitCode, 'the suite ends with the same exit code')
  return direct
}
