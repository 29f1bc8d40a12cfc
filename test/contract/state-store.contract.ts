/** What every state store must do, whichever backend it is and however it is reached. */
import type { Test } from 'tap'

import { bucketTests } from './buckets.contract.ts'
import { callTests } from './calls.contract.ts'
import { catalogueTests } from './catalogue.contract.ts'
import type { ContractOpener } from './contract-subject.ts'
import { artifactTests, uploadTests } from './file.contract.ts'
import { maintainerTests } from './maintainer.contract.ts'
import { quotaTests } from './quota.contract.ts'
import { lifetimeTests, sessionTests } from './session.contract.ts'
import { streamTests } from './streams.contract.ts'
import { sweepTests, upkeepTests } from './upkeep.contract.ts'

/** Runs all behaviours against one backend. */
export function stateStoreContract(t: Test, open: ContractOpener): void {
  sessionTests(t, open)
  lifetimeTests(t, open)
  uploadTests(t, open)
  artifactTests(t, open)
  quotaTests(t, open)
  sweepTests(t, open)
  upkeepTests(t, open)
  callTests(t, open)
  bucketTests(t, open)
  streamTests(t, open)
  maintainerTests(t, open)
  catalogueTests(t, open)
}
