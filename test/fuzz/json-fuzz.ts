/** JSON-RPC bodies from right to wrong: messages of every method, then mutated as values, then as text. */
import type { Random } from './random.ts'

/** What a body may refer to of the session that it is for. */
export interface BodyContext {
  readonly session: string
  /** An upload handle that exists. */
  readonly handle: string
  /** An artifact URI that exists. */
  readonly artifactUri: string
  /** Whether the upstream obeys `fuzz` in arguments: then it answers as that number says. */
  readonly isHostile: boolean
}

type Json = unknown
type JsonObject = { [key: string]: Json }

const METHODS = [
  'ping',
  'tools/list',
  'tools/call',
  'tools/call',
  'tools/call',
  'tools/call',
  'resources/list',
  'resources/read',
  'resources/templates/list',
  'prompts/get',
  'completion/complete',
  'logging/setLevel',
  'server/discover',
  'initialize',
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'tasks/get',
  'no/such',
  '',
  '__proto__',
  'constructor',
]
const TOOLS = [
  'echo',
  'read_file',
  'write_report',
  'files_get_upload_url',
  'no_such_tool',
  'ECHO',
  '',
]
const VERSIONS = [
  '2024-11-05',
  '2025-03-26',
  '2025-06-18',
  '2025-11-25',
  '2026-07-28',
  '9999-99-99',
  '',
]

/** Values that readers disagree about, or that cost more than they look like. */
const ODD_VALUES: readonly Json[] = [
  null,
  true,
  0,
  -0,
  -1,
  1.5,
  1e308,
  Number.MAX_SAFE_INTEGER,
  2 ** 53,
  '',
  ' ',
  '\u0000',
  '__proto__',
  '../../../etc/passwd',
  '/etc/passwd',
  'file:///etc/passwd',
  'upload://',
  'artifact://sessions/x',
  '\ud800',
  'A'.repeat(5_000),
  [],
  {},
  [[]],
  { __proto__: null, constructor: 1 },
  [null, null],
]

/** A body: one message or a batch, as text in UTF-8 or as what is left of it. */
export function fuzzBody(random: Random, context: BodyContext): Buffer {
  const message = random.chance(0.12) ? batch(random, context) : fuzzMessage(random, context)
  const value = random.chance(0.4) ? mutateValue(random, message) : message
  let text = JSON.stringify(value)
  if (random.chance(0.25)) text = mutateText(random, text)
  const bytes = Buffer.from(text, 'utf8')
  return random.chance(0.1) ? mutateUtf8(random, bytes) : bytes
}

/** One message of a client, well-formed. */
export function fuzzMessage(random: Random, context: BodyContext): JsonObject {
  const method = random.pick(METHODS)
  const message: JsonObject = { jsonrpc: '2.0', method }
  if (!method.startsWith('notifications/')) message['id'] = idOf(random)
  const params = paramsOf(random, method, context)
  if (params !== undefined) message['params'] = params
  if (random.chance(0.12)) claimEra(random, message)
  if (random.chance(0.05)) {
    delete message['method']
    message[random.pick(['result', 'error'])] = random.pick(ODD_VALUES)
  }
  return message
}

function batch(random: Random, context: BodyContext): JsonObject[] {
  const length = random.pick([0, 1, 2, 3, 8, 101])
  return Array.from({ length }, () => fuzzMessage(random, context))
}

function idOf(random: Random): Json {
  return random.pick([1, 2, 'a', '', 0, -1, 2 ** 53, 'x'.repeat(300), random.below(1e9)])
}

function paramsOf(random: Random, method: string, context: BodyContext): JsonObject | undefined {
  switch (method) {
    case 'initialize':
      return {
        protocolVersion: random.pick(VERSIONS),
        capabilities: random.pick([{}, { roots: {} }, { sampling: {}, elicitation: {} }]),
        clientInfo: { name: random.text(8), version: '1' },
        ...hostility(random, context),
      }
    case 'tools/call': {
      const name = random.pick(TOOLS)
      return { name, arguments: argumentsOf(random, name, context) }
    }
    case 'resources/read':
      return {
        uri: random.pick([context.artifactUri, 'artifact://', 'x:y', `${context.artifactUri}/..`]),
      }
    case 'tools/list':
    case 'resources/list':
      return random.pick([undefined, {}, { cursor: random.text(12) }, hostility(random, context)])
    case 'notifications/cancelled':
      return { requestId: idOf(random), reason: random.text(10) }
    default:
      return random.pick([undefined, {}, { name: 'x' }, hostility(random, context)])
  }
}

function argumentsOf(random: Random, tool: string, context: BodyContext): JsonObject {
  const extra = hostility(random, context)
  switch (tool) {
    case 'read_file':
      return {
        path: random.pick([
          context.handle,
          context.handle,
          `${context.handle}x`,
          context.handle.slice(0, random.below(context.handle.length)),
          context.handle.replace(context.session, 'A'.repeat(32)),
          `${context.handle}/../../x`,
          [context.handle, context.handle],
          ...ODD_VALUES,
        ]),
        ...extra,
      }
    case 'write_report':
      return {
        filename: random.pick(['r.txt', '../x', '/etc/x', 'a/b', random.text(20), ...ODD_VALUES]),
        content: random.text(100),
        ...extra,
      }
    default:
      return { text: random.text(40), [random.text(6)]: random.pick(ODD_VALUES), ...extra }
  }
}

function hostility(random: Random, { isHostile }: BodyContext): JsonObject {
  return isHostile && random.chance(0.8) ? { fuzz: random.below(1_000_000) } : {}
}

function claimEra(random: Random, message: JsonObject): void {
  const params = message['params'] as JsonObject | undefined // as made above
  message['params'] = {
    ...params,
    _meta: {
      'io.modelcontextprotocol/protocolVersion': random.pick([...VERSIONS, 1, null]),
      ...(random.chance(0.8) ? { 'io.modelcontextprotocol/clientCapabilities': {} } : {}),
    },
  }
}

/** Changes a value in one to three places: another value, a key more, a key less, or a pit of brackets. */
export function mutateValue(random: Random, value: Json): Json {
  let mutated = structuredClone(value)
  for (let i = random.between(1, 3); i > 0; i--) mutated = mutateNode(random, mutated, 0)
  return mutated
}

function mutateNode(random: Random, value: Json, depth: number): Json {
  const isDeep = depth > 4
  if (typeof value !== 'object' || value === null || isDeep || random.chance(0.15))
    return random.chance(0.05) ? pit(random) : random.pick(ODD_VALUES)
  if (Array.isArray(value)) {
    if (value.length === 0) return [random.pick(ODD_VALUES)]
    const at = random.below(value.length)
    return value.map((item: Json, index) =>
      index === at ? mutateNode(random, item, depth + 1) : item,
    )
  }
  const entries = Object.entries(value)
  if (entries.length === 0 || random.chance(0.2))
    return Object.fromEntries([...entries, [random.text(8), random.pick(ODD_VALUES)]])
  const at = random.below(entries.length)
  if (random.chance(0.2)) return Object.fromEntries(entries.filter((_, index) => index !== at))
  return Object.fromEntries(
    entries.map(([key, item], index) =>
      index === at ? [key, mutateNode(random, item, depth + 1)] : [key, item],
    ),
  )
}

function pit(random: Random): Json {
  let value: Json = 1
  for (let depth = random.pick([10, 511, 512, 513, 2_000]); depth > 0; depth--) {
    value = random.chance(0.5) ? [value] : { a: value }
  }
  return value
}

/** Changes JSON text so that it is no JSON any more, or JSON that readers disagree about. */
function mutateText(random: Random, text: string): string {
  const at = random.below(text.length + 1)
  const to = Math.min(text.length, at + random.below(12))
  switch (random.below(9)) {
    case 0:
      return text.slice(0, at)
    case 1:
      return text.slice(0, at) + text.slice(to)
    case 2:
      return text.slice(0, to) + text.slice(at)
    case 3:
      return text.slice(0, at) + random.text(5) + text.slice(at)
    case 4:
      return `${text}${random.pick([' ', '\n', '\u0000', 'null', '{}', ',', ']', text])}`
    case 5:
      return `${random.pick(['\ufeff', ' '.repeat(3_000), '\u0000', '//x\n', '['.repeat(2_000)])}${text}`
    case 6: // a key twice
      return text.replace(
        /"(jsonrpc|id|method|params|name|arguments|path|filename)":/,
        (key) => `${key}${random.pick(['1', '"x"', 'null', '{}'])},${key}`,
      )
    case 7: // a key in other letters or escapes
      return text.replace(/"(jsonrpc|id|method|params|name|arguments)":/, (_, key: string) =>
        random.chance(0.5)
          ? `"${key.toUpperCase()}":`
          : `"\\u${(key.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}${key.slice(1)}":`,
      )
    default: // numbers that no reader holds exactly
      return text.replace(
        /:\d+/,
        `:${random.pick(['1e400', '9'.repeat(400), '1E0', '-0', '01', '1.0'])}`,
      )
  }
}

function mutateUtf8(random: Random, bytes: Buffer): Buffer {
  const bad = random.pick([
    [0xff],
    [0xc0, 0xaf],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0x80],
  ])
  const at = random.below(bytes.length + 1)
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(bad), bytes.subarray(at)])
}
