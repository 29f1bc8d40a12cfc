// Writes config.schema.json, and the tables of docs/configuration.md and docs/telemetry.md, from the compiled sources.
// Usage: node scripts/generate-config-docs.mjs [folder the sources were compiled to, default: build/src]
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const compiled = pathToFileURL(`${resolve(process.argv[2] ?? 'build/src')}/`)
const { renderJsonSchema } = await import(new URL('shared/config/json-schema.js', compiled).href)
const { updateReferencePage } = await import(new URL('shared/config/reference.js', compiled).href)
const { updateTelemetryPage } = await import(
  new URL('shared/telemetry/reference.js', compiled).href
)

const root = new URL('../', import.meta.url)
const page = new URL('docs/configuration.md', root)
writeFileSync(new URL('config.schema.json', root), renderJsonSchema())
writeFileSync(page, updateReferencePage(readFileSync(page, 'utf8')))
const telemetry = new URL('docs/telemetry.md', root)
writeFileSync(telemetry, updateTelemetryPage(readFileSync(telemetry, 'utf8')))
