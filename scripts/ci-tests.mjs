// `npm test` as continuous integration runs it: what failed is said once more at the end, where it is read, then the counts.
//
// A file that fails is run once more, alone: on a machine shared by two files at a time, faults that are injected on purpose sometimes meet a wait that was
// too short. One that passes then is named as unsteady, which is a defect to look into, but does not stop the change.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { stripVTControlCharacters } from 'node:util'

import { projectRoot, runMain, say } from './setup.mjs'

/** Most lines that are said again of one failure: its name, what was expected, where. */
const LINES_OF_A_FAILURE = 40
/** More files than this failing is no accident of timing. */
const MOST_UNSTEADY_FILES = 3

await runMain(async () => {
  // Arguments name files, to try this script.
  const all = await run(process.argv.slice(2))
  const { counts } = all
  if (counts === undefined || counts.pass === 0) {
    say('No test ran.')
    return 1
  }
  let failed = all
  const isAccident =
    all.code !== 0 && all.files.length > 0 && all.files.length <= MOST_UNSTEADY_FILES
  if (isAccident) {
    say(`\nRunning again, alone: ${all.files.join(' ')}`)
    failed = await run(['--jobs=1', ...all.files])
  }
  report(all.failures)
  if (isAccident && failed.code !== 0) report(failed.failures)
  if (isAccident && failed.code === 0) {
    say(`\nUnsteady: failed beside others, passed alone: ${all.files.join(' ')}`)
    counts.pass += counts.fail
    counts.fail = 0
  }
  const leftOut = counts.skip + counts.todo
  if (leftOut > 0) say('Tests were skipped; none may be.')
  say(`${counts.pass} passed, ${counts.fail} failed, ${leftOut} skipped`)
  return failed.code === 0 && leftOut > 0 ? 1 : failed.code
})

/** Runs `npm test` with these arguments and passes its output on. */
async function run(args) {
  const child = spawn('npm', ['test', '--', ...args], {
    cwd: projectRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((settle, reject) => {
    child.once('error', reject)
    child.once('close', (code) => settle(code ?? 1))
  })
  const failures = []
  const files = []
  let counts
  let open
  for await (const coloured of createInterface({ input: child.stdout })) {
    say(coloured)
    const line = stripVTControlCharacters(coloured)
    const file = /^not ok \d+ - (build\/test\/\S+\.test\.js)/.exec(line)?.[1]
    if (file !== undefined) files.push(file)
    if (/^ *not ok /.test(line)) failures.push((open = [line]))
    else if (/^ *(ok |# |\d+\.\.)/.test(line)) open = undefined
    else if (open !== undefined && open.length < LINES_OF_A_FAILURE) open.push(line)
    counts = countsOf(line) ?? counts
  }
  return { code: await ended, counts, files, failures }
}

/** tap ends with `# { total: 12, pass: 11, fail: 1 }`, without what is zero. */
function countsOf(line) {
  if (!/^ *# \{ total: \d+/.test(line)) return undefined
  const count = (name) => Number(new RegExp(`[ {]${name}: (\\d+)`).exec(line)?.[1] ?? 0)
  return { pass: count('pass'), fail: count('fail'), skip: count('skip'), todo: count('todo') }
}

function report(failures) {
  if (failures.length === 0) return
  say('\nWhat failed:')
  for (const lines of failures) say(lines.join('\n'))
}
