// Lets the conformance CLI start on Node 20: it imports `globSync` from `fs`, which exists since Node 22 and which only its
// `tier-check` command calls. Use: `node --import ./scripts/node20-globsync.mjs …`. A no-op where `fs` has it.

import * as fs from 'node:fs'
import { register } from 'node:module'

const patchedFs = `
export * from 'node:fs'
export { default } from 'node:fs'
export function globSync() { throw new Error('fs.globSync needs Node 22') }`

const hooks = `
export function resolve(specifier, context, nextResolve) {
  if (specifier !== 'fs') return nextResolve(specifier, context)
  return { url: ${JSON.stringify(asModule(patchedFs))}, shortCircuit: true }
}`

if (!('globSync' in fs)) register(asModule(hooks))

function asModule(source) {
  return `data:text/javascript,${encodeURIComponent(source)}`
}
