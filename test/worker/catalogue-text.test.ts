/** Text and digests of tool definitions, for whatever an upstream may send. */
import * as fc from 'fast-check'
import t from 'tap'

import { driftOf, summaryOf } from '../../src/worker/catalogue/drift.ts'
import { editSchemaText, UnfitToolError } from '../../src/worker/catalogue/schema-text.ts'
import { packPins, pinName, pinOf, unpackPins } from '../../src/worker/catalogue/tool-pin.ts'
import type { ToolPin } from '../../src/worker/catalogue/tool-pin.ts'
import { cleanText } from '../../src/worker/catalogue/visible-text.ts'

const ALL = { normalizeUnicode: true, removeInvisibleCharacters: true, maxChars: null }
const UNSEEN = /[\p{Cf}\p{Cs}\u{E0100}-\u{E01EF}\u034F\u115F\u3164]|(?![\t\n\r])\p{Cc}/u
const pins = (names: readonly string[]): Map<string, ToolPin> =>
  new Map(names.map((name) => [pinName(name), pinOf({ name, description: name })]))
const pin = (description: string): ToolPin => pinOf({ description })
const isShown = (name: string): boolean => name !== 'hidden'
const anyText = fc.string({ unit: 'binary', maxLength: 60 })

t.test('cleaned text holds nothing unseen, and cleaning it again changes nothing', async (t) => {
  fc.assert(
    fc.property(anyText, (text) => {
      const once = cleanText(text, ALL)
      return !UNSEEN.test(once) && cleanText(once, ALL) === once
    }),
    { numRuns: 2_000 },
  )
  t.pass('for any text')
})

t.test('what people read stays', async (t) => {
  for (const text of ['Zoë\r\n\t✓ 日本語 ⚠️ 1️⃣', 'مرحبا', 'नमस्ते', 'plain', ''])
    t.equal(cleanText(text, ALL), text.normalize('NFKC'))
  t.equal(cleanText('a\u200B\u0300', ALL), 'à', 'nor does something unseen keep its parts apart')
  t.equal(cleanText('a\uFE0Fb\uFE01\uD800', ALL), 'ab')
  const off = { ...ALL, removeInvisibleCharacters: false }
  t.equal(cleanText('ﬁ\u200B', off), 'fi\u200B')
  t.equal(cleanText('ﬁ\u200B', { ...ALL, normalizeUnicode: false }), 'ﬁ')
})

t.test(
  'a cap counts characters, never cuts one in two, and ends in dots where they fit',
  async (t) => {
    fc.assert(
      fc.property(anyText, fc.integer({ min: 1, max: 40 }), (text, maxChars) => {
        const whole = cleanText(text, ALL)
        const cut = cleanText(text, { ...ALL, maxChars })
        const length = Array.from(cut).length
        if (Array.from(whole).length <= maxChars) return cut === whole
        return length === maxChars && (maxChars <= 3 || cut.endsWith('...')) && !/\p{Cs}/u.test(cut)
      }),
    )
    t.equal(cleanText('😀😀😀😀😀', { ...ALL, maxChars: 4 }), '😀...')
    t.equal(cleanText('abcdef', { ...ALL, maxChars: 3 }), 'abc')
    const long = cleanText(`é${'\u200B'.repeat(1_000_000)}`, { ...ALL, maxChars: 10 })
    t.equal(long, 'é...', 'what follows more than is looked at counts as cut')
  },
)

t.test('piled-up marks are cut before they are sorted', async (t) => {
  const piled = cleanText(`a${'\u0327\u0300'.repeat(500_000)}b`, ALL)
  t.ok(piled.length < 40)
  t.match(piled, /^[aà].*b$/)
})

t.test('only titles and descriptions of a schema are edited, wherever they are', async (t) => {
  const schema = {
    title: 't',
    enum: [{ title: 'e' }],
    const: { description: 'c' },
    default: { description: 'd' },
    examples: [{ title: 'x' }],
    properties: {
      enum: { description: 'p' },
      title: { type: 'string', default: 'title' },
      properties: { items: [{ description: 'i' }], properties: { a: { title: 'a' } } },
    },
  }
  const before = structuredClone(schema)
  t.strictSame(
    editSchemaText(schema, (text, key) => (key === 'title' ? text.toUpperCase() : undefined)),
    {
      title: 'T',
      enum: [{ title: 'e' }],
      const: { description: 'c' },
      default: { description: 'd' },
      examples: [{ title: 'x' }],
      properties: {
        enum: {},
        title: { type: 'string', default: 'title' },
        properties: { items: [{}], properties: { a: { title: 'A' } } },
      },
    },
  )
  t.strictSame(schema, before, 'what was given is not changed')
  t.equal(
    editSchemaText(schema, (text) => text),
    schema,
  )
  let deep: unknown = {}
  for (let level = 0; level < 200; level++) deep = { items: deep }
  t.throws(() => editSchemaText(deep, (text) => text), UnfitToolError)
  t.throws(() => pinOf({ name: 'x', inputSchema: deep }), UnfitToolError)
})

t.test(
  'a pin is that of the definition, in whatever order its keys are, and of nothing else',
  async (t) => {
    const tool = fc.dictionary(
      fc.constantFrom('title', 'description', 'inputSchema', '_meta', 'x-other'),
      fc.jsonValue({ maxDepth: 3 }),
    )
    fc.assert(
      fc.property(tool, tool, (one, other) => {
        const turned = Object.fromEntries(Object.entries(one).toReversed())
        if (pinOf({ name: 'a', ...one }).digest !== pinOf({ ...turned, name: 'b' }).digest) {
          return false
        }
        const same = JSON.stringify(sorted(one)) === JSON.stringify(sorted(other))
        return same === (pinOf(one).digest === pinOf(other).digest)
      }),
    )
    t.not(pinOf({ description: 'a\u200B' }).digest, pinOf({ description: 'a' }).digest)
  },
)

t.test('pins are kept as one text for one set, of bounded length', async (t) => {
  const [one, other] = [pins(['b', 'a', 'c']), pins(['c', 'b', 'a'])]
  t.equal(packPins(one), packPins(other))
  t.same(unpackPins(packPins(one)), one)
  t.equal(unpackPins('{"v":2,"tools":[]}'), undefined)
  t.equal(unpackPins('[]'), undefined)
  const odd = ['\u0000'.repeat(200), 'x'.repeat(129), 'new\nline', '"quote']
  for (const name of odd) t.match(pinName(name), /^sha256:[\w-]{43}$/)
})

t.test('drift names what became of each tool, and a renamed one once', async (t) => {
  const before = new Map([
    ['kept', pin('k')],
    ['changed', pin('c')],
    ['gone', pin('g')],
    ['old', pin('o')],
    ['hidden', pin('h')],
  ])
  const now = new Map([
    ['kept', pin('k')],
    ['changed', pin('C')],
    ['young', pin('o')],
    ['copy', pin('o')],
    ['hidden', pin('H')],
  ])
  const drift = driftOf(before, now, { isWhole: true, isShown })
  t.match(
    summaryOf(drift),
    /^changed=changed\[description\]; new=copy; removed=gone; renamed=old->young #[\w-]{8}$/,
  )
  const page = driftOf(before, now, { isWhole: false, isShown })
  t.match(summaryOf(page), /^changed=changed\[description\]; new=copy,young #/)
  const again = driftOf(before, new Map(now).set('changed', pin('x')), { isWhole: true, isShown })
  t.not(summaryOf(again), summaryOf(drift), 'another change of the same field is another drift')
  const many = new Map(Array.from({ length: 50 }, (_, index) => [`t${index}`, pin('')]))
  t.match(summaryOf(driftOf(new Map(), many, { isWhole: true, isShown })), /,\+30 #/)
})

/** With the keys of all objects in order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, item]): [string, unknown] => [key, sorted(item)])
  return entries.toSorted(([one], [other]) => (one < other ? -1 : 1))
}
