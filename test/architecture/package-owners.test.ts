/** Each package has one owner in src/, so that replacing it is one place and a thread loads only what it uses. */
import { readFileSync } from 'node:fs'

import t from 'tap'

import { readSources } from './sources.ts'

/** Package (or all of a scope, ending in `/*`) to the files or folders (ending in a slash) that may import it. ARCHITECTURE.md has the same table. */
const OWNERS: Readonly<Record<string, readonly string[]>> = {
  'uWebSockets.js': ['primary/listener/native.ts'],
  'uwebsockets-glibc227': ['primary/listener/native.ts'],
  piscina: ['worker/files/digest-pool.ts'],
  '@fastify/busboy': ['worker/files/receive-body.ts'],
  'quickjs-emscripten-core': ['worker/code-mode/sandbox.ts'],
  '@jitl/quickjs-wasmfile-release-sync': ['worker/code-mode/sandbox.ts'],
  jose: ['primary/admission/jwt-verifier.ts', 'primary/admission/jwks.ts'],
  libsql: ['shared/state/sql-database.ts'],
  ioredis: ['shared/state/redis/'],
  msgpackr: ['shared/state/redis/record-codec.ts'],
  zod: ['shared/config/'],
  yaml: ['shared/config/'],
  re2js: ['shared/config/patterns.ts'],
  pino: ['shared/log.ts'],
  '@opentelemetry/*': ['shared/telemetry/export/'],
  '@grpc/grpc-js': ['shared/telemetry/export/otlp-exporter.ts', 'shared/telemetry/export/otlp.ts'],
  'node:worker_threads': [
    'primary/supervisor.ts',
    'primary/telemetry.ts',
    'primary/dispatch/',
    'worker/main.ts',
    'worker/files/',
    'worker/code-mode/',
    'shared/frames/channel.ts',
    'shared/state/',
    'shared/telemetry/',
    'shared/worker-options.ts',
    'primary/telemetry-export.ts',
  ],
}

const sources = readSources()
const isOwnedBy = (owner: string, path: string): boolean =>
  owner.endsWith('/') ? path.startsWith(owner) : path === owner

const entryOf = (name: string): string => {
  const scope = `${name.split('/', 1)[0]}/*`
  return OWNERS[scope] === undefined ? name : scope
}

t.test('a package is imported by its owner only', async (t) => {
  for (const { path, packages } of sources) {
    for (const name of new Set(packages.map(entryOf))) {
      if (name.startsWith('node:') && OWNERS[name] === undefined) continue
      t.ok(
        OWNERS[name]?.some((owner) => isOwnedBy(owner, path)),
        `${path} imports ${name}`,
      )
    }
  }
})

t.test('every owner imports what it owns', async (t) => {
  for (const [name, owners] of Object.entries(OWNERS)) {
    for (const owner of owners) {
      const uses = sources.some(
        ({ path, packages }) =>
          isOwnedBy(owner, path) && packages.some((one) => entryOf(one) === name),
      )
      t.ok(uses, `${owner} imports ${name}`)
    }
  }
})

t.test('ARCHITECTURE.md has the same table', async (t) => {
  const page = readFileSync('ARCHITECTURE.md', 'utf8').replaceAll(/[ \t]+/g, ' ')
  for (const [name, owners] of Object.entries(OWNERS)) {
    const list = owners.map((owner) => `\`${owner}\``).join(', ')
    t.ok(page.includes(`| \`${name}\` | ${list} |`), name)
  }
})
