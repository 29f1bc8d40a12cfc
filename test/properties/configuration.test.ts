/** A good configuration with anything in it changed: it loads, or every problem has its place; what is shown of it loads again and tells no secret. */
import { deepEqual, ok } from 'node:assert/strict'
import { readFileSync } from 'node:fs'

import * as fc from 'fast-check'
import t from 'tap'
import { parse, stringify } from 'yaml'

import { parseConfig, type LoadedConfig } from '../../src/shared/config/load.ts'
import { printEffectiveConfig } from '../../src/shared/config/print.ts'
import { ConfigError } from '../../src/shared/config/problems.ts'
import { EXAMPLE, EXAMPLE_ENV } from '../shared/config-loading.ts'
import { holds } from './holds.ts'

t.setTimeout(120_000)

const SECRETS = { MCP_ADAPTER_TOKEN: 'Zt7-front-door', MCP_ADAPTER_SIGNING_SECRET: 'Zs9-pen' }
const example = readFileSync(EXAMPLE, 'utf8')

/** What was loaded, or what is wrong; throws whatever else the loader throws. */
function outcomeOf(text: string): LoadedConfig | ConfigError {
  try {
    return parseConfig({ text, path: 'config.yaml', env: { ...EXAMPLE_ENV, ...SECRETS } })
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
}

/** Every problem is one that an operator can go to. */
function checkProblems(text: string, { problems, message }: ConfigError): void {
  const lines = text.split(/\r\n|\n|\r/)
  ok(problems.length > 0)
  for (const problem of problems) {
    ok(problem.message !== '' && message.includes(problem.message))
    if (problem.line === null) {
      ok(problem.column === null)
      continue
    }
    const line = lines[problem.line - 1]
    ok(line !== undefined, `line ${problem.line} of ${lines.length}`)
    ok(problem.column !== null && problem.column >= 1 && problem.column <= line.length + 1)
  }
}

type Tree = unknown

const oddValue = fc.oneof(
  fc.constantFrom<Tree>(
    null,
    true,
    0,
    -1,
    1.5,
    1e21,
    Number.NaN,
    '',
    ' ',
    '\u0000',
    'no',
    '10Mi',
    '-5',
    '/',
    '/a/',
    'a/b',
    '..',
    'http://u:p@h/?key=Zq',
    'ftp://x',
    '${NOT_SET}',
    '${MCP_ADAPTER_TOKEN}',
    '${',
    '$',
    'upload://',
    [],
    {},
    [[]],
    { a: 1 },
    ['x', 'x'],
    '__proto__',
    'X Y',
    'a: b',
    '*',
    '&a',
    '!!js',
    'Ä'.repeat(300),
    'GET\r\nX: y',
    2 ** 60,
  ),
  fc.jsonValue({ maxDepth: 1 }),
)
const change = fc.record({
  place: fc.nat(),
  kind: fc.nat(4),
  value: oddValue,
  key: fc.string({ maxLength: 8 }),
})
type Change = typeof change extends fc.Arbitrary<infer Value> ? Value : never

/** Every path of a tree, the leaves and what holds them. */
function pathsOf(
  tree: Tree,
  path: readonly (string | number)[] = [],
): (readonly (string | number)[])[] {
  if (typeof tree !== 'object' || tree === null) return [path]
  const entries: (readonly [string | number, Tree])[] = Array.isArray(tree)
    ? tree.map((item: Tree, index) => [index, item] as const)
    : Object.entries(tree)
  const below = entries.flatMap(([key, item]) => pathsOf(item, [...path, key]))
  return path.length === 0 ? below : [path, ...below]
}

function changed(tree: Tree, { place, kind, value, key }: Change): Tree {
  const copy = structuredClone(tree)
  const paths = pathsOf(copy)
  const path = paths[place % paths.length] ?? []
  const last = path.at(-1)
  let holder = copy as Record<string | number, Tree> // a mapping or a list
  for (const part of path.slice(0, -1)) holder = holder[part] as typeof holder // as the path says
  if (last === undefined) return value
  if (kind === 1) delete holder[last]
  else if (kind === 2) {
    holder[`${String(last)}${key}`] = holder[last]
    delete holder[last]
  } else if (kind === 3 && Array.isArray(holder)) holder.push(structuredClone(holder[Number(last)]))
  else holder[last] = value
  return copy
}

t.test('a configuration with changed values loads, or each problem has its place', async (t) => {
  let loaded = 0
  let refused = 0
  holds(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const text = stringify(changes.reduce<Tree>(changed, parse(example)))
      const outcome = outcomeOf(text)
      if (outcome instanceof ConfigError) {
        refused++
        checkProblems(text, outcome)
        return
      }
      loaded++
      const again = outcomeOf(stringify(outcome.effective))
      ok(!(again instanceof ConfigError), again instanceof ConfigError ? again.message : '')
      deepEqual(again.config, outcome.config, 'what is shown means the same')
      const shown = printEffectiveConfig(outcome)
      for (const secret of [SECRETS.MCP_ADAPTER_SIGNING_SECRET, 'Zq'])
        ok(!shown.includes(secret), `shows ${secret}`)
      parse(shown)
    }),
    150,
  )
  t.ok(loaded > 2 && refused > 50, `${loaded} loaded, ${refused} did not`)
})

t.test('a file with changed characters loads, or each problem has its place', async (t) => {
  const edit = fc.tuple(
    fc.nat(),
    fc.nat(6),
    fc.oneof(
      fc.constantFrom(
        '\n',
        '\t',
        ': ',
        '- ',
        '"',
        "'",
        '${',
        '}',
        '&a ',
        '*a',
        '<<: ',
        '#',
        '\u0000',
        '\u2028',
        '|',
        '\r\n',
        '? ',
        '---\n',
        '%',
      ),
      fc.string({ maxLength: 3, unit: 'grapheme' }),
    ),
  )
  holds(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      const text = edits.reduce((before, [place, cut, insert]) => {
        const at = place % (before.length + 1)
        return before.slice(0, at) + insert + before.slice(at + cut)
      }, example)
      const outcome = outcomeOf(text)
      if (outcome instanceof ConfigError) checkProblems(text, outcome)
    }),
    150,
  )
  t.pass('nothing else is thrown')
})

t.test('what is wrong with a file is told without quoting a secret of it', async (t) => {
  const prefix = fc.constantFrom(
    '',
    '|',
    '>',
    '!',
    '!a!',
    '*',
    '&',
    '@',
    '`',
    '%',
    '"',
    "'",
    '[',
    '{',
    '- ',
    '? ',
    '"\\',
    '"\\x',
  )
  const suffix = fc.constantFrom('', '"', "'", ']', '}', ':', ' #', '\\', '\t')
  const edit = fc.tuple(
    fc.nat(),
    fc.nat(6),
    fc.constantFrom('}', ']', '"', "'", '\n', '\t', ': ', '- ', '{', '['),
  )
  holds(
    fc.property(prefix, suffix, fc.array(edit, { maxLength: 2 }), (opening, closing, edits) => {
      const line = `    token: ${opening}hunter2hunter2${closing}`
      const written = example.replace(/^.*\$\{MCP_ADAPTER_TOKEN\}.*$/m, () => line)
      // After the secret: before it, quotes and cut line ends make it part of another value, which may be shown.
      const end = written.indexOf(line) + line.length + 1
      const after = edits.reduce((text, [place, cut, insert]) => {
        const at = place % (text.length + 1)
        return text.slice(0, at) + insert + text.slice(at + cut)
      }, written.slice(end))
      const text = written.slice(0, end) + after
      const outcome = outcomeOf(text)
      if (outcome instanceof ConfigError) ok(!outcome.message.includes('unter'), outcome.message)
    }),
    200,
  )
  t.pass('wherever it breaks')
})
