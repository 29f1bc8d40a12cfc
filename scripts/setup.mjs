// Brings a clone into the state that the other scripts need: packages, compiled code, test runner plugins, system programs.
// Plain Node without packages, because it runs before there are any. Every step says in one line what it does, and nothing when there is nothing to do.

import { spawnSync } from 'node:child_process'
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of the clone, without a trailing slash. */
export const projectRoot = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

/** A step failed; the message says what to do. Scripts print it without a stack. */
export class SetupError extends Error {}

/** Installs the packages of package-lock.json unless exactly those are installed. */
export function ensureDependencies() {
  if (installedAsLocked()) return
  say('Installing packages: npm ci')
  // Also with NODE_ENV=production: a clone needs the compiler.
  run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], {
    failed: 'npm ci failed; what npm printed above says why',
  })
}

/** Compiles `src` into `dist` when a source is newer. */
export function ensureBuild() {
  compile({
    project: 'tsconfig.build.json',
    outDir: 'dist',
    sources: [['src', '.']],
    what: 'the adapter',
  })
}

/** Compiles `src` and `test` into `build` when a source is newer, and removes what has no source any more. */
export function ensureTestBuild() {
  const sources = [
    ['src', 'src'],
    ['test', 'test'],
    ['bench', 'bench'],
  ]
  compile({ project: 'tsconfig.json', outDir: 'build', sources, what: 'the adapter and its tests' })
}

/** Builds the test runner's plugin set when it is older than the packages: a run with an old set fails in ways that don't tell why. */
export function ensureTapPlugins() {
  const plugins = modifiedAt('.tap/plugins')
  if (plugins !== undefined && plugins > (modifiedAt('node_modules/.package-lock.json') ?? 0))
    return
  say('Preparing the test runner: tap build')
  run(packageProgram('tap'), ['build'], { failed: 'tap build failed', quiet: true })
}

/** Where programs are that were taken out of packages. */
const OWN_PROGRAMS = '.programs'

/** The programs that scripts and tests need, with their Debian packages. Installing those with a service may start it: see `stopService`. */
const PROGRAMS = {
  chromium: { debianPackage: 'chromium' },
  'redis-server': { debianPackage: 'redis-server', service: 'redis-server' },
  'redis-cli': { debianPackage: 'redis-tools' },
  // One static program of a package that would bring two services and thirty packages: it is taken out, not installed.
  promtool: { debianPackage: 'prometheus', taken: 'usr/bin/promtool' },
  haproxy: { debianPackage: 'haproxy', service: 'haproxy' },
}

/**
 * Finds programs on the PATH, installing the Debian packages of those that are missing where this process may. Answers their paths in the order
 * asked for; throws an error that says what to run.
 */
export function ensurePrograms(...names) {
  const missing = names.filter((name) => findProgram(name) === undefined)
  const toTake = missing.filter((name) => PROGRAMS[name].taken !== undefined)
  const toInstall = missing.filter((name) => !toTake.includes(name))
  if (toInstall.length > 0) install(toInstall)
  for (const name of toTake) takeOut(name)
  return names.map((name) => {
    const found = findProgram(name)
    if (found !== undefined) return found
    throw new SetupError(
      `The Debian package ${PROGRAMS[name].debianPackage} has no program "${name}".`,
    )
  })
}

function install(names) {
  const packages = names.map((name) => PROGRAMS[name].debianPackage)
  const byHand = `apt-get update && apt-get install -y ${packages.join(' ')}`
  const isRoot = process.getuid?.() === 0
  if (!isRoot || findProgram('apt-get') === undefined) {
    const how = isRoot
      ? `install what is missing; on Debian: ${byHand}`
      : `run: sudo sh -c '${byHand}'`
    throw new SetupError(`Needed and not on the PATH: ${names.join(', ')}.\nPlease ${how}`)
  }
  say(`Installing ${names.join(', ')}: apt-get install ${packages.join(' ')}`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const failed = `Could not install ${names.join(', ')}; try it by hand: ${byHand}`
  run('apt-get', ['update'], { env, failed, quiet: true })
  run('apt-get', ['install', '-y', ...packages], { env, failed, quiet: true })
  for (const name of names) stopService(PROGRAMS[name].service)
}

/** Puts one program of a Debian package into `.programs/`, without installing the package: that needs no right but to read the lists of packages. */
function takeOut(name) {
  const { debianPackage, taken } = PROGRAMS[name]
  if (findProgram('apt-get') === undefined || findProgram('dpkg-deb') === undefined)
    throw new SetupError(`Needed and not on the PATH: ${name}. Please install ${debianPackage}.`)
  say(
    `Taking ${name} out of the Debian package ${debianPackage}: apt-get download ${debianPackage}`,
  )
  const folder = mkdtempSync(join(tmpdir(), 'adapter-program-'))
  const failed = `Could not get ${name}; please put it on the PATH (Debian package ${debianPackage})`
  try {
    if (process.getuid?.() === 0) run('apt-get', ['update'], { failed, quiet: true })
    run('apt-get', ['download', debianPackage], { cwd: folder, failed, quiet: true })
    const [archive] = readdirSync(folder)
    run('dpkg-deb', ['-x', archive, 'content'], { cwd: folder, failed, quiet: true })
    mkdirSync(join(projectRoot, OWN_PROGRAMS), { recursive: true })
    // Under another name first: whoever runs beside this must not find half of it.
    const place = join(projectRoot, OWN_PROGRAMS, name)
    copyFileSync(join(folder, 'content', taken), `${place}.${process.pid}`)
    renameSync(`${place}.${process.pid}`, place)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Ends the service that Debian starts with an installation where it may: ours are private, on ports of their own, and end with who started them. */
function stopService(service) {
  if (service === undefined) return
  const [command, args] = existsSync('/run/systemd/system')
    ? ['systemctl', ['disable', '--now', service]]
    : ['service', [service, 'stop']]
  // In a container there is neither, and nothing was started.
  spawnSync(command, args, { stdio: 'ignore' })
}

/** Runs a script's main function and exits with the code it answers; a SetupError is told without a stack. */
export async function runMain(main) {
  try {
    process.exitCode = (await main()) ?? 0
  } catch (error) {
    const isExpected = error instanceof SetupError
    process.stderr.write(`\n${isExpected ? error.message : (error?.stack ?? String(error))}\n`)
    process.exitCode = 1
  }
}

/** Prints one line for the person who started the script. */
export function say(line) {
  process.stdout.write(`${line}\n`)
}

/** The path of a program that an installed package brings. */
export function packageProgram(name) {
  return join(projectRoot, 'node_modules', '.bin', name)
}

/** True when npm's own record of node_modules has everything that the lock file has. By content: dates say nothing in a fresh clone. */
function installedAsLocked() {
  const installed = readPackages('node_modules/.package-lock.json')
  if (installed === undefined) return false
  const locked = readPackages('package-lock.json')
  if (locked === undefined) {
    throw new SetupError(
      'package-lock.json is missing or damaged: run git checkout package-lock.json',
    )
  }
  return Object.entries(locked).every(([path, wanted]) => {
    if (path === '') return true
    const found = installed[path]
    // Optional ones are left out where they don't fit the platform.
    if (found === undefined) return wanted.optional === true || wanted.devOptional === true
    return found.version === wanted.version && found.integrity === wanted.integrity
  })
}

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(join(projectRoot, path), 'utf8')).packages
  } catch {
    return undefined
  }
}

/** `sources` pairs a source folder with its place below `outDir`. */
function compile({ project, outDir, sources, what }) {
  const expected = new Map()
  let newestSource = Math.max(modifiedAt('tsconfig.json') ?? 0, modifiedAt(project) ?? 0)
  for (const [folder, place] of sources) {
    for (const file of filesIn(join(projectRoot, folder))) {
      if (!file.endsWith('.ts') || file.endsWith('.d.ts')) continue
      newestSource = Math.max(newestSource, statSync(file).mtimeMs)
      const inFolder = relative(join(projectRoot, folder), file).replace(/\.ts$/, '.js')
      expected.set(join(projectRoot, outDir, place, inFolder), file)
    }
  }
  // Stale files first: a test that was deleted or renamed must not run any more.
  for (const file of filesIn(join(projectRoot, outDir))) {
    if (!expected.has(file.replace(/\.map$/, ''))) rmSync(file)
  }
  const isCurrent = [...expected.keys()].every((output) => {
    const modified = modifiedAt(output)
    return modified !== undefined && modified >= newestSource
  })
  if (isCurrent) return
  say(`Compiling ${what} into ${outDir}/`)
  // Nothing is written when there are errors, so that the next start doesn't take a broken build for a current one.
  run(packageProgram('tsc'), ['-p', project, '--outDir', outDir, '--noEmitOnError'], {
    failed: 'The TypeScript compiler found the errors above; nothing was built.',
  })
}

function* filesIn(folder) {
  if (!existsSync(folder)) return
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* filesIn(path)
    else yield path
  }
}

function modifiedAt(path) {
  return statSync(resolve(projectRoot, path), { throwIfNoEntry: false })?.mtimeMs
}

function findProgram(name) {
  // Debian keeps servers where the PATH of ordinary users does not look.
  const folders = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/usr/local/sbin',
    join(projectRoot, OWN_PROGRAMS),
  ]
  for (const folder of folders) {
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      if (statSync(path).isFile()) return path
    } catch {
      // Not in this folder.
    }
  }
  return undefined
}

function run(command, args, { cwd = projectRoot, env = process.env, failed, quiet = false }) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    stdio: quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
  })
  if (status === 0) return
  if (quiet) process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`)
  throw new SetupError(error === undefined ? failed : `${failed} (${error.message})`)
}
