/** What `search` finds, in which order, and that a hostile catalogue does not make it expensive or wrong. */
import t from 'tap'

import { answerFromCatalogue } from '../../src/worker/code-mode/catalogue-answer.ts'
import { callHeaders } from '../../src/worker/code-mode/param-headers.ts'
import { searchTools } from '../../src/worker/code-mode/tool-search.ts'

const TOOLS = [
  {
    name: 'readFile',
    description: 'Reads a document from the disk',
    inputSchema: { properties: { path: {} } },
  },
  { name: 'write-report', description: 'Makes a report of the orders', inputSchema: {} },
  {
    name: 'list_orders',
    description: 'Lists what was ordered. Reads nothing else.',
    inputSchema: { properties: { customerId: { type: 'string', description: 'Whose' }, page: {} } },
    _meta: { fastmcp: { tags: ['sales', 5] } },
  },
  { name: 'ping', title: 'Überprüfung', description: 'Says that it is there' },
]

function namesFor(query: string): readonly unknown[] {
  return searchTools(TOOLS, query).map(({ name }) => name)
}

function textFor(kind: 'search' | 'get_schema', args: Record<string, unknown>): string {
  return JSON.stringify(answerFromCatalogue(kind, args, TOOLS)['content'])
}

t.test(
  'names in any style, descriptions, arguments and tags are found, the best first',
  async (t) => {
    t.equal(namesFor('read file')[0], 'readFile')
    t.equal(namesFor('READ_FILE')[0], 'readFile')
    t.equal(namesFor('report')[0], 'write-report')
    t.same(namesFor('orders'), ['list_orders', 'write-report'], 'the name counts most')
    t.equal(namesFor('customer')[0], 'list_orders')
    t.equal(namesFor('sales')[0], 'list_orders')
    t.equal(namesFor('überprüfung')[0], 'ping')
    t.equal(namesFor('reports')[0], 'write-report', 'by their beginnings')
    t.equal(namesFor('document the disk')[0], 'readFile')
    t.same(namesFor('zzz'), [])
    t.same(namesFor('!?'), [])
    t.same(searchTools([], 'x'), [])
  },
)

t.test('tags and details choose what is shown', async (t) => {
  t.match(textFor('search', { tags: ['sales'] }), /list_orders/)
  t.notMatch(textFor('search', { tags: ['sales'] }), /ping/)
  const detailed = textFor('get_schema', { tools: ['list_orders', 'ping', 'list_orders'] })
  t.match(detailed, /customerId \(string\): Whose/)
  t.match(detailed, /- page \(any\)/)
  t.equal(detailed.split('## list_orders').length, 2, 'once')
  t.match(textFor('search', { query: 'ping', detail: 'full' }), /Überprüfung/)
})

t.test('a catalogue of odd and endless texts is read in bounds', async (t) => {
  const odd: Record<string, unknown>[] = [
    { name: '__proto__', description: { toString: 'x' }, inputSchema: [], _meta: { fastmcp: 1 } },
    { name: 'constructor', description: null, inputSchema: { properties: [1], required: 5 } },
    {
      name: 'long',
      description: `${'word '.repeat(1e6)}needle`,
      inputSchema: { properties: { a: 5 } },
    },
    { name: '', description: '\u0000\n\n' },
  ]
  t.same(searchTools(odd, 'needle'), [], 'what comes so late is not read')
  t.equal(searchTools(odd, 'long word')[0]?.['name'], 'long')
  for (const detail of ['brief', 'detailed', 'full']) {
    t.match(answerFromCatalogue('search', { detail }, odd), { content: [{ type: 'text' }] })
    t.match(
      answerFromCatalogue('get_schema', { tools: ['__proto__', 'constructor'], detail }, odd),
      {
        content: [{ type: 'text' }],
      },
    )
  }
  t.match(answerFromCatalogue('get_schema', { tools: ['toString'] }, odd), { isError: true })
  t.match(answerFromCatalogue('search', { query: 'x'.repeat(1e6) }, odd), {
    content: [{ type: 'text' }],
  })
})

t.test(
  'headers of a call repeat what the tool asks for, and nothing that breaks a header',
  async (t) => {
    const properties = {
      region: { 'x-mcp-header': 'Region' },
      count: { 'x-mcp-header': 'Count' },
      plain: {},
      list: { 'x-mcp-header': 'List' },
      bad: { 'x-mcp-header': 'a b\r\nx' },
      toString: { 'x-mcp-header': 'Inherited' },
    }
    const args = { region: 'a\r\nb', count: 5, plain: 'x', list: [], bad: 'y' }
    t.same(callHeaders('täst', args, { name: 'täst', inputSchema: { properties } }), [
      'mcp-name',
      `=?base64?${Buffer.from('täst').toString('base64')}?=`,
      'mcp-param-region',
      `=?base64?${Buffer.from('a\r\nb').toString('base64')}?=`,
      'mcp-param-count',
      '5',
    ])
    t.same(callHeaders('x', {}, undefined), ['mcp-name', 'x'])
    t.same(
      callHeaders('=?x', {}, { inputSchema: 5 })[1],
      `=?base64?${Buffer.from('=?x').toString('base64')}?=`,
    )
  },
)
