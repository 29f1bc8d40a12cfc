/** JSON-RPC bodies: how they are understood, against a plain reading of the same text; and what is refused because readers differ. */
import { deepEqual, equal, ok } from 'node:assert/strict'

import * as fc from 'fast-check'
import t from 'tap'

import { AdapterError } from '../../src/shared/errors.ts'
import { refuseAmbiguity } from '../../src/worker/exchange/ambiguity.ts'
import { classify } from '../../src/worker/exchange/era.ts'
import { readEnvelope } from '../../src/worker/exchange/json-rpc.ts'
import { holds } from './holds.ts'

t.setTimeout(120_000)

/** The code of the `AdapterError` that `work` throws, or undefined; any other error is thrown on. */
function refusal(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof AdapterError) return error.code
    throw error
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isId = (id: unknown): boolean =>
  typeof id === 'string' || (typeof id === 'number' && Number.isInteger(id))

/** What a message is, by JSON-RPC 2.0 and MCP; undefined when it is none. */
function kindOf(value: unknown): string | undefined {
  if (!isObject(value) || value['jsonrpc'] !== '2.0') return undefined
  const { id, method, params } = value
  if (Object.hasOwn(value, 'method')) {
    if (typeof method !== 'string') return undefined
    if (Object.hasOwn(value, 'params') && !isObject(params)) return undefined
    if (!Object.hasOwn(value, 'id')) return 'notification'
    return isId(id) ? 'request' : undefined
  }
  if (!Object.hasOwn(value, 'result') && !Object.hasOwn(value, 'error')) return undefined
  return id === null || !Object.hasOwn(value, 'id') || isId(id) ? 'response' : undefined
}

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(null, '', '2.0', 2, 1.5, -0, 2 ** 60, [], {}, 'initialize', true),
)
const messageLike = fc.record(
  {
    jsonrpc: fc.oneof({ weight: 8, arbitrary: fc.constant('2.0') }, odd),
    id: fc.oneof(fc.integer(), fc.string(), odd),
    method: fc.oneof({ weight: 4, arbitrary: fc.string() }, odd),
    params: fc.oneof({ weight: 4, arbitrary: fc.dictionary(fc.string(), odd) }, odd),
    result: odd,
    error: odd,
  },
  { requiredKeys: [] },
)
const bodyLike = fc.oneof(
  { weight: 3, arbitrary: messageLike },
  { weight: 2, arbitrary: fc.array(messageLike, { maxLength: 4 }) },
  odd,
)
const edit = fc.tuple(fc.nat(), fc.nat(3), fc.string({ unit: 'binary', maxLength: 2 }))

t.test('a body is understood as a plain reader of JSON understands it', async (t) => {
  holds(
    fc.property(bodyLike, (value) => {
      const text = JSON.stringify(value)
      const values: unknown = JSON.parse(text)
      const messages: readonly unknown[] = Array.isArray(values) ? values : [values]
      const kinds = messages.map(kindOf)
      const ids = messages
        .filter((one) => kindOf(one) === 'request')
        .map((one) => (one as { id: unknown }).id)
      const isGood =
        messages.length > 0 && !kinds.includes(undefined) && new Set(ids).size === ids.length
      const bytes = Buffer.from(text)
      equal(
        refusal(() => readEnvelope(bytes)),
        isGood ? undefined : 'ADAPTER_INVALID_REQUEST',
        text,
      )
      if (!isGood) return
      const envelope = readEnvelope(bytes)
      equal(envelope.isBatch, Array.isArray(values))
      deepEqual(
        envelope.messages.map(({ kind }) => kind),
        kinds,
      )
      deepEqual(
        envelope.messages.map((message) => message.value),
        messages,
      )
    }),
    800,
  )
  t.pass('requests, notifications, responses, batches and what is none')
})

t.test(
  'a changed body is refused with a reason or is JSON that says what was understood',
  async (t) => {
    holds(
      fc.property(bodyLike, fc.array(edit, { minLength: 1, maxLength: 4 }), (value, edits) => {
        const text = edits.reduce((before, [place, cut, insert]) => {
          const at = place % (before.length + 1)
          return before.slice(0, at) + insert + before.slice(at + cut)
        }, JSON.stringify(value))
        const bytes = Buffer.from(text, 'utf8')
        const code = refusal(() => readEnvelope(bytes))
        // Small bodies in ASCII come as strings: it must make no difference.
        if (/^[\x20-\x7e]*$/.test(text))
          equal(
            refusal(() => readEnvelope(text)),
            code,
          )
        let parsed: unknown
        try {
          parsed = JSON.parse(bytes.toString('utf8'))
        } catch {
          equal(code, 'ADAPTER_PARSE_ERROR', text)
          return
        }
        equal(code === 'ADAPTER_PARSE_ERROR', false, text)
        if (code === undefined)
          deepEqual(
            readEnvelope(bytes).messages.map((message) => message.value),
            [parsed].flat(),
          )
      }),
      800,
    )
    t.pass('nothing else is thrown')
  },
)

t.test('bytes that are not UTF-8 are refused before they are parsed', async (t) => {
  holds(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(40), (bytes, place) => {
      const text = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"x"}')
      const mixed = Buffer.concat([text.subarray(0, place), bytes, text.subarray(place)])
      const code = refusal(() => readEnvelope(mixed))
      const isText = Buffer.from(mixed.toString('utf8')).equals(mixed)
      ok(isText || code === 'ADAPTER_PARSE_ERROR', mixed.toString('latin1'))
    }),
  )
  t.pass('replacement characters never reach an upstream')
})

t.test('nesting is counted as it is, whatever the strings of a body look like', async (t) => {
  const noise = fc.string({ unit: fc.constantFrom(...Array.from('[{"\\]},:')), maxLength: 700 })
  holds(
    fc.property(
      noise,
      fc.integer({ min: 490, max: 530 }),
      fc.boolean(),
      fc.boolean(),
      (noise, depth, isArray, isString) => {
        const [open, close] = isArray ? ['[', ']'] : ['{"a":', '}']
        const nested = `${open.repeat(depth)}1${close.repeat(depth)}`
        const text = `{"jsonrpc":"2.0","id":1,"method":"x","params":{"n":${JSON.stringify(noise)},"v":${nested}}}`
        const body = isString ? text : Buffer.from(text)
        // The message and its params are two levels.
        equal(
          refusal(() => readEnvelope(body)),
          depth + 2 > 512 ? 'ADAPTER_INVALID_REQUEST' : undefined,
        )
      },
    ),
    150,
  )
  t.pass('brackets in strings are none')
})

/** One member of an object as text: its key spelled somehow, and blanks around the colon. */
const spelling = fc.record({
  escapedAt: fc.option(fc.nat(), { nil: null }),
  blanks: fc.constantFrom('', ' ', '\n\t '),
})
type Spelling = typeof spelling extends fc.Arbitrary<infer Value> ? Value : never

function member(key: string, value: string, { escapedAt, blanks }: Spelling): string {
  if (escapedAt === null || key === '') return `${JSON.stringify(key)}${blanks}:${blanks}${value}`
  const at = escapedAt % key.length
  const code = key.charCodeAt(at).toString(16).padStart(4, '0')
  return `"${quoted(key.slice(0, at))}\\u${code}${quoted(key.slice(at + 1))}"${blanks}:${blanks}${value}`
}

function quoted(text: string): string {
  return JSON.stringify(text).slice(1, -1)
}

const KNOWN = ['jsonrpc', 'id', 'method', 'params']
const KNOWN_OF_PARAMS = ['name', 'arguments']
const keyOfMessage = fc.constantFrom(
  ...KNOWN,
  'Id',
  'METHOD',
  'paramſ',
  'x',
  '_meta',
  'name',
  '"',
  '\\',
)
const keyOfParams = fc.constantFrom(
  ...KNOWN_OF_PARAMS,
  'Name',
  'argumentſ',
  'id',
  'x',
  '',
  'method',
)
const value = fc.constantFrom(
  '1',
  '"x"',
  '"\\"{\\\\"',
  '{"name":1,"name":2}',
  '[{"id":1,"id":2}]',
  'null',
)

function isAmbiguous(keys: readonly string[], known: readonly string[]): boolean {
  const isOther = (key: string): boolean =>
    !known.includes(key) && known.includes(key.toUpperCase().toLowerCase())
  return new Set(keys).size !== keys.length || keys.some(isOther)
}

t.test(
  'a body is ambiguous exactly when a key that decides is there twice or in other letters',
  async (t) => {
    const members = (key: fc.Arbitrary<string>) =>
      fc.array(fc.tuple(key, value, spelling), { maxLength: 4 })
    holds(
      fc.property(
        members(keyOfMessage),
        members(keyOfParams),
        spelling,
        fc.boolean(),
        (outer, inner, how, isBatch) => {
          const params = `{${inner.map(([key, text, spelled]) => member(key, text, spelled)).join(',')}}`
          const written = [
            ...outer.map(([key, text, spelled]) => member(key, text, spelled)),
            member('params', params, how),
          ]
          const message = `{${written.join(' , ')}}`
          const text = isBatch ? `[{"id":1,"x":{"id":1}}, ${message}]` : message
          const isBad =
            isAmbiguous([...outer.map(([key]) => key), 'params'], KNOWN) ||
            isAmbiguous(
              inner.map(([key]) => key),
              KNOWN_OF_PARAMS,
            )
          JSON.parse(text)
          equal(
            refusal(() => refuseAmbiguity(text, isBatch)),
            isBad ? 'ADAPTER_INVALID_REQUEST' : undefined,
            text,
          )
          equal(refusal(() => refuseAmbiguity(Buffer.from(text), isBatch)) !== undefined, isBad)
        },
      ),
      800,
    )
    t.pass('however it is spelled')
  },
)

const REVISION = '2026-07-28'
const claim = (capabilities: unknown): object => ({
  'io.modelcontextprotocol/protocolVersion': REVISION,
  ...(capabilities === undefined
    ? {}
    : { 'io.modelcontextprotocol/clientCapabilities': capabilities }),
})
const name = fc.oneof(
  fc.string({ unit: 'grapheme-ascii', maxLength: 12 }),
  fc.string({ maxLength: 12, unit: 'grapheme' }),
)

/** As a client writes a name into a header. */
function headerOf(text: string): string {
  return /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !text.startsWith('=?')
    ? text
    : `=?base64?${Buffer.from(text).toString('base64')}?=`
}

function headersOf(values: readonly string[]): string[] {
  const names = ['mcp-protocol-version', 'mcp-method', 'mcp-name']
  return names.flatMap((key, index) => [key, values[index] ?? ''])
}

t.test(
  'a claim of the era without sessions holds when the headers say the same as the body',
  async (t) => {
    holds(
      fc.property(name, name, fc.nat(3), (tool, other, lie) => {
        const params = { name: tool, _meta: claim({}) }
        const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params })
        const envelope = readEnvelope(body)
        const right = [REVISION, 'tools/call', headerOf(tool)]
        equal(classify(envelope, headersOf(right)).kind, 'stateless')
        if (lie < 3) {
          const wrong = right.with(lie, headerOf(other))
          const isSame = wrong[lie] === right[lie]
          equal(
            refusal(() => classify(envelope, headersOf(wrong))),
            isSame ? undefined : 'ADAPTER_HEADER_MISMATCH',
          )
          equal(
            refusal(() => classify(envelope, headersOf(right).toSpliced(lie * 2, 2))),
            'ADAPTER_HEADER_MISMATCH',
          )
        }
      }),
      400,
    )
    t.pass('every header counts')
  },
)

t.test('without a claim in the body no header makes a request one of the other era', async (t) => {
  const version = fc.oneof(
    fc.constantFrom('2025-06-18', '2025-11-25', REVISION, '9999-99-99', ''),
    fc.string(),
  )
  const meta = fc.oneof(odd, fc.constant({ 'io.modelcontextprotocol/protocolVersion': 1 }))
  holds(
    fc.property(
      version,
      fc.constantFrom('ping', 'initialize', 'tools/call'),
      meta,
      (version, method, meta) => {
        const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: { _meta: meta } })
        const isLater = /^\d{4}-\d{2}-\d{2}$/.test(version) && version >= REVISION
        const expected = isLater && method !== 'initialize' ? 'ADAPTER_INVALID_PARAMS' : 'session'
        const classified = (): string =>
          classify(readEnvelope(body), ['mcp-protocol-version', version]).kind
        equal(refusal(classified) ?? classified(), expected)
      },
    ),
  )
  t.pass('it belongs to a session or is refused')
})
