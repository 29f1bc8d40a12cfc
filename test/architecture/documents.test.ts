/** The documents say what the code says: error codes, file names, links. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import t from 'tap'

import { ERRORS } from '../../src/shared/errors.ts'
import { readSources } from './sources.ts'

/** Codes of the catalogue that nothing sends yet. The test fails when one of them is used: take it off then, here and in docs/errors.md. */
const NOT_SENT: readonly string[] = []

const sources = readSources()

t.test('docs/errors.md lists exactly the error catalogue', async (t) => {
  const page = readFileSync('docs/errors.md', 'utf8')
  const rows = [
    ...page.matchAll(/^\|\s*`(ADAPTER_\w+)`\s*\|\s*(\d+)\s*\|\s*(-?\d+)\s*\|\s*(yes|no)\s*\|/gm),
  ]
  const documented = rows.map(([, code, status, rpcCode, retry]) => [
    code,
    { status: Number(status), rpcCode: Number(rpcCode), retryable: retry === 'yes' },
  ])
  t.same(Object.fromEntries(documented), ERRORS)
  t.equal(documented.length, Object.keys(ERRORS).length, 'no code has two rows')
})

t.test('every code of the catalogue is sent from somewhere', async (t) => {
  const others = sources.filter(({ path }) => path !== 'shared/errors.ts')
  const isUsed = (code: string): boolean => others.some(({ text }) => text.includes(`'${code}'`))
  const unused = Object.keys(ERRORS).filter((code) => !isUsed(code))
  t.same(unused, NOT_SENT)
})

t.test('files that the documents name are there', async (t) => {
  const pages = [
    'README.md',
    'ARCHITECTURE.md',
    'docs/testing.md',
    'docs/operations.md',
    'docs/security.md',
    'docs/dependencies.md',
  ]
  for (const page of pages) {
    const text = readFileSync(page, 'utf8').replaceAll(/```[\s\S]*?```/g, '')
    const named = [
      ...text.matchAll(/`((?:primary|worker|shared|src|test|scripts|examples|bench)\/[\w./-]*)`/g),
    ].map(([, path = '']) => path)
    t.ok(page !== 'ARCHITECTURE.md' || named.length > 40, `${page} names files`)
    for (const path of new Set(named))
      t.ok(existsSync(path) || existsSync(join('src', path)), `${page}: ${path}`)
  }
})

t.test(
  'every control of docs/security.md names where it is and a test that shows it',
  async (t) => {
    const page = readFileSync('docs/security.md', 'utf8')
    const controls = page.slice(page.indexOf('## Controls'), page.indexOf('## Not protected'))
    const rows = controls
      .split('\n')
      .filter((line) => line.startsWith('| ') && !/^\| (?:Threat|-+) /.test(line))
      .map((line) => line.split('|').map((cell) => cell.trim()))
    t.ok(rows.length > 25)
    for (const [, threat = '', , where = '', proof = ''] of rows) {
      t.match(where, /^`[\w./-]+`/, `${threat}: where`)
      t.match(proof, /`test\/[\w./-]+`|`npm run check`/, `${threat}: test`)
    }
  },
)

t.test('links between the documents lead somewhere', async (t) => {
  const docs = readdirSync('docs').filter((name) => name.endsWith('.md'))
  const pages = [
    'README.md',
    'ARCHITECTURE.md',
    'CHANGELOG.md',
    ...docs.map((name) => `docs/${name}`),
  ]
  for (const page of pages) {
    const text = readFileSync(page, 'utf8').replaceAll(/```[\s\S]*?```/g, '')
    for (const [, target = '', anchor] of text.matchAll(/\]\(([^)#\s]*)(?:#([^)\s]*))?\)/g)) {
      if (/^[a-z]+:/i.test(target)) continue
      const path = target === '' ? page : join(dirname(page), target)
      const exists = existsSync(path)
      t.ok(exists, `${page} links to ${target}`)
      if (!exists || anchor === undefined || !path.endsWith('.md')) continue
      t.ok(anchorsOf(path).has(anchor), `${page} links to ${path}#${anchor}`)
    }
  }
})

t.test('ARCHITECTURE.md can be read in one sitting', async (t) => {
  t.ok(readFileSync('ARCHITECTURE.md', 'utf8').split('\n').length < 400)
})

/** Anchors of headings, made as code hosts make them. */
function anchorsOf(path: string): ReadonlySet<string> {
  const headings = readFileSync(path, 'utf8').matchAll(/^#+ (.+)$/gm)
  return new Set(
    [...headings].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}
