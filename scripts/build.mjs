// npm run build: compiles src/ into dist/ where it is out of date.
import { ensureBuild, ensureDependencies, runMain } from './setup.mjs'

await runMain(() => {
  ensureDependencies()
  ensureBuild()
})
