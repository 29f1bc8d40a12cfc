/** Patterns of operators on text that upstreams choose. */
import * as fc from 'fast-check'
import t from 'tap'

import { LinearPattern, patternProblem } from '../../src/shared/config/patterns.ts'

t.test('a pattern that would never end in a backtracking engine answers', async (t) => {
  const hostile = `${'a'.repeat(100_000)}!`
  for (const source of ['(a+)+$', '(a|a)*$', '(a|aa)+$', '^(([a-z])+.)+[A-Z]([a-z])+$', '(.*)*x']) {
    const pattern = new LinearPattern(source)
    t.equal(pattern.matchesWhole(hostile), false, source)
    t.ok([...pattern.find(hostile)].length <= 1_000, source)
  }
})

t.test('patterns mean what they mean in JavaScript', async (t) => {
  const cases: [source: string, text: string, found: readonly string[]][] = [
    [String.raw`file <(?<p>.*?)>`, 'file <a> file <b c>', ['a', 'b c']],
    [String.raw`file <(?P<p>.*?)>`, 'file <a>', ['a']],
    [String.raw`\S+\.txt`, 'x.txt and dir/y.txt', ['x.txt', 'dir/y.txt']],
    [String.raw`\/tmp\/\u0061+`, 'in /tmp/aaa', ['/tmp/aaa']],
    [String.raw`(a)?b`, 'ab b', ['a']],
  ]
  for (const [source, text, found] of cases) {
    t.strictSame([...new LinearPattern(source).find(text)], found, source)
  }
  const names = fc.stringMatching(/^[a-z_.]{1,12}$/)
  fc.assert(
    fc.property(names, names, (source, name) => {
      const isMatch = new RegExp(`^(?:${source})$`).test(name)
      return new LinearPattern(source).matchesWhole(name) === isMatch
    }),
  )
  t.pass('also on anything that looks like a name')
})

t.test('a whole match is not satisfied by a part, nor by the first alternative', async (t) => {
  t.equal(new LinearPattern('a|ab').matchesWhole('ab'), true)
  t.equal(new LinearPattern('del_.*').matchesWhole('undel_all'), false)
  t.equal(new LinearPattern('a').matchesWhole('a\n'), false)
})

t.test('what can not be matched in linear time is refused with a reason', async (t) => {
  for (const source of ['(?=x)a', '(?<!x)a', String.raw`(a)\1`, 'x[', '(', 'a{100000}', '*'])
    t.match(patternProblem(source), /\S/, source)
  t.equal(patternProblem('(?:a|b)+'), undefined)
})
