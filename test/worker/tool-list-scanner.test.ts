/** What finds lists of tools in answers that are relayed unread: in any form, cut anywhere, and nothing else. */
import t from 'tap'

import { toolListScanner } from '../../src/worker/exchange/tool-list-scanner.ts'
import type { ToolListScanner } from '../../src/worker/exchange/tool-list-scanner.ts'

const ANSWERED = new Set(['5', '"own"', String.raw`"q\"é"`])
const TOOLS = '"tools":[{"name":"x"}]'

const FOREIGN: Readonly<Record<string, string>> = {
  'id first': `{"jsonrpc":"2.0","id":7,"result":{${TOOLS}}}`,
  'id last': `{"result":{${TOOLS}},"jsonrpc":"2.0","id":7}`,
  'no id': `{"result":{${TOOLS}}}`,
  'id null': `{"id":null,"result":{${TOOLS}}}`,
  'an id that is ours as text only': `{"id":"5","result":{${TOOLS}}}`,
  'two ids, the right one last': `{"id":7,"id":5,"result":{${TOOLS}}}`,
  'two ids, the right one first': `{"id":5,"id":7,"result":{${TOOLS}}}`,
  'an id of another kind': `{"id":{"id":5},"result":{${TOOLS}}}`,
  'an endless id': `{"id":"${'5'.repeat(500)}","result":{${TOOLS}}}`,
  'escaped keys': String.raw`{"\u0069d":7,"r\u0065sult":{"\u0074\u006F\u006fls":[]}}`,
  'capital keys': `{"ID":7,"Result":{"Tools":[]}}`,
  'an own id further in': `{"id":7,"result":{"id":5,${TOOLS},"x":{"id":5}}}`,
  'other lists before': `{"id":7,"result":{"a":[[{"tools":{}}]],"b":"]}","tools" : [ ]}}`,
  'a result before it': `{"id":7,"result":1,"result":{${TOOLS}}}`,
  'strings that end in backslashes': String.raw`{"a":"\\","b":"\\\"","id":7,"result":{"tools":[]}}`,
  'spaces everywhere': ` { "id" :\t7 , "result" : { "tools" : [ ] } } `,
  'in a batch': `[{"id":5,"result":{}},{"id":7,"result":{${TOOLS}}}]`,
  'after another message': `{"id":5,"result":{}}\n{"id":7,"result":{${TOOLS}}}`,
}

const HARMLESS: Readonly<Record<string, string>> = {
  'what was asked for': `{"id":5,"result":{${TOOLS}}}`,
  'with an id in text': `{"result":{${TOOLS}},"id":"own"}`,
  'with an escaped id': String.raw`{"result":{"tools":[]},"id":"q\"\u00e9"}`,
  'with an id that needs no escape': String.raw`{"result":{"tools":[]},"id":"q\"é"}`,
  'another result': `{"id":7,"result":{"content":[{"type":"text","text":"tools"}]}}`,
  'a list further in': `{"id":7,"result":{"structuredContent":{${TOOLS}}}}`,
  'a list beside the result': `{"id":7,${TOOLS},"result":{}}`,
  'tools that are no list': `{"id":7,"result":{"tools":{}}}`,
  'a list in a text': `{"id":7,"result":{"text":"{\\"result\\":{\\"tools\\":[]}}"}}`,
  'a list in params': `{"method":"x","params":{"result":{${TOOLS}}}}`,
  'the word as a value': `{"id":7,"result":{"a":"tools","b":["tools",[]]}}`,
  'an error': `{"id":7,"error":{"code":1,"message":"no","data":{${TOOLS}}}}`,
  'a batch': `[{"id":7,"result":{}},{"id":5,"result":{${TOOLS}}}]`,
}

/** Whether the text is found, whole and cut in pieces of each size. */
function outcomes(make: () => ToolListScanner, text: string): Set<boolean> {
  const bytes = Buffer.from(text)
  const found = new Set<boolean>()
  for (const size of [1, 2, 3, 7, 5_000, bytes.length]) {
    const scanner = make()
    let isFound = false
    for (let at = 0; at < bytes.length && !isFound; at += size)
      isFound = scanner.push(bytes.subarray(at, at + size))
    found.add(isFound)
  }
  return found
}

const json = (): ToolListScanner => toolListScanner(() => ANSWERED, false)
const events = (): ToolListScanner => toolListScanner(() => ANSWERED, true)

t.test('in JSON', async (t) => {
  for (const [name, text] of Object.entries(FOREIGN))
    t.strictSame([...outcomes(json, text)], [true], name)
  for (const [name, text] of Object.entries(HARMLESS))
    t.strictSame([...outcomes(json, text)], [false], name)
})

t.test('in an event stream', async (t) => {
  for (const end of ['\n', '\r\n', '\r']) {
    const stream = (text: string): string =>
      `\uFEFFid: 1${end}data:${text.replaceAll('\n', `${end}data: `)}${end}${end}`
    for (const [name, text] of Object.entries(FOREIGN)) {
      t.strictSame([...outcomes(events, stream(text))], [true], name)
      t.strictSame([...outcomes(events, `\uFEFFdata:${text.replaceAll('\n', '')}`)], [true], name)
    }
    for (const [name, text] of Object.entries(HARMLESS))
      t.strictSame([...outcomes(events, stream(text))], [false], name)
  }
})

t.test('in what is too large to be searched for the word first', async (t) => {
  const much = 'x'.repeat(5_000)
  const both = [[FOREIGN, true] as const, [HARMLESS, false] as const]
  for (const [texts, isFound] of both) {
    for (const [name, text] of Object.entries(texts)) {
      t.strictSame([...outcomes(json, `{"a":"${much}"}${text}`)], [isFound], name)
      const stream = `: ${much}\ndata: ${text.replaceAll('\n', '')}\n\n`
      t.strictSame([...outcomes(events, stream)], [isFound], name)
    }
  }
})

t.test('an event that was not finished says nothing of the next', async (t) => {
  const [list = ''] = Object.values(FOREIGN)
  for (const before of ['{"a":"', '{"a":[', '"', String.raw`{"a":"\ `, '}]}'])
    t.strictSame([...outcomes(events, `data: ${before}\n\ndata: ${list}\n\n`)], [true], before)
})

t.test('lines that are no data are none', async (t) => {
  const [list = ''] = Object.values(FOREIGN)
  for (const line of [
    `: ${list}`,
    `event: ${list}`,
    `xdata: ${list}`,
    `Data: ${list}`,
    ` data: ${list}`,
  ])
    t.strictSame([...outcomes(events, `${line}\n\n`)], [false], line)
})

t.test('data after what only some readers take for the end of a line is found', async (t) => {
  for (const end of ['\v', '\f', '\u001C', '\u001D', '\u001E', '\u0085', '\u2028', '\u2029'])
    t.strictSame(
      [...outcomes(events, `: tool x${end}data: {}\n\n`)],
      [true],
      String(end.charCodeAt(0)),
    )
  t.strictSame([...outcomes(events, 'data: {"a":"\u2028 data \u2027data é"}\n\n')], [false])
})
