// Part of `npm run check`: licences and install scripts of every package in package-lock.json, by allow-lists that say why. Needs no network; `npm audit`,
// which does, is run by hand (docs/dependencies.md).

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Licences that everything may have: permissive, without a condition on who uses the adapter or how. */
const LICENCES = new Set([
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'ISC',
  'MIT',
  'Zlib',
  'WTFPL',
])

/** Packages whose licence is not in the list or not stated, by name: what they have, and why that is right. */
const LICENCE_EXCEPTIONS = new Map([
  [
    'spdx-exceptions',
    { licence: 'CC-BY-3.0', why: 'a list of names that a tool of the tests reads; not shipped' },
  ],
  [
    'jsonc-simple-parser',
    {
      licence: undefined,
      why: 'states none in its manifest, its LICENSE file is MIT; of the tests, not shipped',
    },
  ],
])

/** Packages that have an install script: what it does. All work without it, so `allowScripts` in package.json denies them. */
const INSTALL_SCRIPTS = new Map([
  [
    'msgpackr-extract',
    'node-gyp-build-optional-packages: looks for the prebuilt binary that came as a package, and would compile from its own sources',
  ],
  [
    'protobufjs',
    'node scripts/postinstall: reads the manifest of the project around it and may print a warning about its version range; of the gRPC client',
  ],
  [
    'bufferutil',
    'node-gyp-build: looks for the prebuilt binary in the package itself, and would compile from its own sources',
  ],
  [
    'protobufjs',
    'node scripts/postinstall: warns when the manifest above it asks for a version in a way that its author thinks unsafe, and does nothing else',
  ],
  [
    'utf-8-validate',
    'node-gyp-build: looks for the prebuilt binary in the package itself, and would compile from its own sources',
  ],
])

/** Names of scripts that npm runs when a package is installed. */
const HOOKS = ['preinstall', 'install', 'postinstall']
/** What a script that fetches something says, as far as its command shows it. */
const FETCHES = /\b(?:curl|wget|https?:|prebuild-install|node-pre-gyp|download|fetch)\b/

const problems = []
const seen = { packages: 0, licences: new Map(), scripts: new Set() }
const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))

// npm 11 and later obey; earlier ones run the scripts, which find their binaries and do nothing.
const { allowScripts = {} } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
for (const name of new Set([...INSTALL_SCRIPTS.keys(), ...Object.keys(allowScripts)]))
  if (allowScripts[name] !== false || !INSTALL_SCRIPTS.has(name))
    problems.push(
      `${name}: allowScripts of package.json must deny what INSTALL_SCRIPTS lists, and nothing else`,
    )

for (const [path, entry] of Object.entries(packages)) {
  if (path === '' || entry.link === true) continue
  seen.packages++
  const name = entry.name ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
  checkLicence(name, entry)
  checkSource(name, entry)
  checkScripts(name, path, entry)
}
for (const [name] of LICENCE_EXCEPTIONS)
  if (!seen.licences.has(name))
    problems.push(`${name} is an exception of licences, but needs none any more`)
for (const [name] of INSTALL_SCRIPTS)
  if (!seen.scripts.has(name))
    problems.push(`${name} is listed with an install script, but has none any more`)

for (const problem of problems) process.stderr.write(`${problem}\n`)
if (problems.length > 0) process.exitCode = 1
else
  process.stdout.write(
    `${seen.packages} packages: licences and install scripts as listed in scripts/check-packages.mjs\n`,
  )

function checkLicence(name, { license }) {
  const exception = LICENCE_EXCEPTIONS.get(name)
  if (exception !== undefined) {
    seen.licences.set(name, license)
    if (exception.licence !== license)
      problems.push(`${name} has the licence ${license}, the exception is for ${exception.licence}`)
  } else if (!isAllowed(license))
    problems.push(
      `${name} has the licence ${license ?? '(none stated)'}: see LICENCE_EXCEPTIONS in scripts/check-packages.mjs`,
    )
}

/** An expression of SPDX: of an OR one is enough, of an AND all are needed. */
function isAllowed(license) {
  if (license === undefined) return false
  const text = license.replace(/^\((.*)\)$/, '$1')
  if (text.includes('(')) return false
  return text
    .split(' OR ')
    .some((choice) => choice.split(' AND ').every((part) => LICENCES.has(part)))
}

/** Only a registry: not a repository, an archive somewhere, or a directory. */
function checkSource(name, { resolved, integrity, inBundle }) {
  if (resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/'))
    problems.push(`${name} does not come from the npm registry: ${resolved}`)
  if (integrity === undefined && inBundle !== true)
    problems.push(`${name} has no digest in package-lock.json`)
}

function checkScripts(name, path, { hasInstallScript }) {
  // The lock file says so; what is installed says what.
  const manifest = join(root, path, 'package.json')
  const scripts = existsSync(manifest)
    ? (JSON.parse(readFileSync(manifest, 'utf8')).scripts ?? {})
    : {}
  const commands = HOOKS.flatMap((hook) => (scripts[hook] === undefined ? [] : [scripts[hook]]))
  if (hasInstallScript === true) {
    seen.scripts.add(name)
    if (!INSTALL_SCRIPTS.has(name))
      problems.push(
        `${name} has an install script (${commands.join('; ')}): see INSTALL_SCRIPTS in scripts/check-packages.mjs`,
      )
  }
  for (const command of commands)
    if (FETCHES.test(command))
      problems.push(`${name} fetches something when it is installed: ${command}`)
}
