// The suite as upstream, an SDK client in front of the adapter: the suite's mock servers judge what the adapter sends them.
// Each scenario runs alone, once directly and once through the adapter; those about OAuth are left out, because the adapter
// is a protected resource of its own and never passes a client's token on.

import t from 'tap'
import { fileURLToPath } from 'node:url'
import {
  isPassed,
  objections,
  requiredScenarios,
  runConformance,
  verdicts,
  type ConformanceRun,
} from './conformance-cli.ts'
import { targetModule } from './target.ts'

t.setTimeout(600_000)

const clientTimeoutMs = 25_000
/** Scenarios that the suite runs at each revision without scoring them, and that say something about a gateway. */
const unscored = ['json-schema-2020-12-preservation']
const wrapper = fileURLToPath(new URL('./client-wrapper.js', import.meta.url))

for (const [revision, scored] of [
  ['2025-11-25', 4],
  ['2026-07-28', 7],
] as const) {
  t.test(`what reaches an upstream through the adapter conforms to ${revision}`, async (t) => {
    const required = await requiredScenarios(revision, 'client')
    const withoutAuth = required.filter((scenario) => !scenario.startsWith('auth/'))
    t.equal(withoutAuth.length, scored, 'the suite requires as many scenarios as are known')
    for (const scenario of [...withoutAuth, ...unscored]) {
      t.test(scenario, async (t) => {
        const [direct, through] = await Promise.all([
          runScenario(scenario, revision, 'direct'),
          runScenario(scenario, revision, targetModule),
        ])
        t.ok(isPassed(direct.scenarios.get(scenario)), 'the client passes it without the adapter', {
          output: direct.output,
        })
        t.same(verdicts(through), verdicts(direct), 'the same checks have the same status', {
          objections: objections(through),
          output: through.output,
        })
        t.equal(through.exitCode, 0, 'the suite accepts the client through the adapter')
      })
    }
  })
}

function runScenario(scenario: string, revision: string, target: string): Promise<ConformanceRun> {
  const command = `${process.execPath} ${wrapper} ${target}`
  const limits = ['--spec-version', revision, '--timeout', String(clientTimeoutMs)]
  return runConformance('client', '--command', command, '--scenario', scenario, ...limits)
}
