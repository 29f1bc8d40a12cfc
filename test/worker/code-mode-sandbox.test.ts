/** The sandbox of scripts: what they can do, what they can not, and that nothing they do outlives them. */
import t from 'tap'

import { SandboxPool } from '../../src/worker/code-mode/sandbox-pool.ts'
import type { RunningScript } from '../../src/worker/code-mode/sandbox-pool.ts'
import type { ScriptLimits, ScriptOutcome } from '../../src/worker/code-mode/sandbox-protocol.ts'
import { eventually, within } from '../support/eventually.ts'

const LIMITS: ScriptLimits = {
  computeMs: 2_000,
  memoryBytes: 32 * 1024 * 1024,
  maxToolCalls: 50,
  maxOutputBytes: 4_096,
  maxConsoleBytes: 1_024,
}
const pool = new SandboxPool({ maxScripts: 2, maxScriptsPerSession: 2 })
t.teardown(() => pool.close())

interface Call {
  readonly tool: string
  readonly args: unknown
  readonly answer: (value: unknown) => void
}

interface Options {
  readonly limits?: Partial<ScriptLimits>
  readonly timeoutMs?: number
  readonly owner?: string | null
  readonly onCall?: (call: Call) => void
}

function start(code: string, options: Options = {}): RunningScript {
  const { limits, timeoutMs = 20_000, owner = null, onCall = answerItself } = options
  const running = pool.start({
    code,
    limits: { ...LIMITS, ...limits },
    timeoutMs,
    server: 'one',
    owner,
    onCall: (call, tool, argsJson) =>
      onCall({
        tool,
        args: JSON.parse(argsJson),
        answer: (value) => script().answer(call, JSON.stringify(value)),
      }),
  })
  const script = (): RunningScript => {
    if (typeof running === 'string') throw new Error(running)
    return running
  }
  return script()
}

function answerItself({ tool, args, answer }: Call): void {
  answer({ result: { tool, args } })
}

function answerLate({ answer }: Call): void {
  setTimeout(() => answer({ result: 1 }), 500)
}

function refuse({ answer }: Call): void {
  answer({ error: { message: 'the disk is full', result: { isError: true } } })
}

async function run(code: string, options: Options = {}): Promise<ScriptOutcome> {
  return within(`the end of ${code.slice(0, 60)}`, start(code, options).outcome, 25_000)
}

async function valueOf(code: string, options: Options = {}): Promise<unknown> {
  const outcome = await run(code, options)
  if (outcome.kind === 'error') throw new Error(outcome.text)
  return outcome.json === undefined ? undefined : JSON.parse(outcome.json)
}

async function errorOf(code: string, options: Options = {}): Promise<string> {
  const outcome = await run(code, options)
  return outcome.kind === 'error' ? outcome.text : `no error but ${outcome.json}`
}

t.test(
  'a script computes, calls tools one after the other and at once, and returns JSON',
  async (t) => {
    t.same(await valueOf('return 6 * 7'), 42)
    t.equal(await valueOf('1 + 1'), undefined, 'nothing returned')
    t.equal(await valueOf('return undefined'), undefined)
    t.equal(await valueOf('return "häßlich 報告"'), 'häßlich 報告')
    t.same(await valueOf('return [await callTool("a", {n: 1}), await call_tool("b")]'), [
      { tool: 'a', args: { n: 1 } },
      { tool: 'b', args: {} },
    ])
    t.same(
      await valueOf(
        'const all = await Promise.all([1, 2, 3].map((n) => callTool("t", {n}))); return all.map((one) => one.args.n)',
      ),
      [1, 2, 3],
    )
    t.equal(await valueOf('return 1 // a comment at the end'), 1)
  },
)

t.test('a script that fails says what failed, and on which of its lines', async (t) => {
  t.match(await errorOf('const a = 1\n\nnull.f()'), /^TypeError: .*\n {4}at line 3/)
  t.match(await errorOf('\n\nconst = 4'), /^SyntaxError: .*\n {4}at line 3/)
  t.match(
    await errorOf('function inner() { throw new RangeError("deep") }\ninner()'),
    /^RangeError: deep\n {4}at line 1 \(inner\)\n {4}at line 2/,
  )
  t.match(await errorOf('throw "just text"'), /^just text$/)
  t.match(await errorOf('throw undefined'), /^undefined$/)
  t.match(await errorOf('await undefinedThing'), /^ReferenceError/)
  const onCall = refuse
  t.match(
    await errorOf('\nawait callTool("a")', { onCall }),
    /^ToolError: the disk is full\n {4}at line 2/,
  )
  t.same(
    await valueOf(
      'try { await callTool("a") } catch (e) { return [e instanceof ToolError, e instanceof Error, e.message, e.result] }',
      { onCall },
    ),
    [true, true, 'the disk is full', { isError: true }],
  )
})

t.test('arguments of a call that are none are refused before anything is called', async (t) => {
  const calls: unknown[] = []
  const onCall = (call: Call): void => void calls.push(call)
  for (const bad of [
    'callTool()',
    'callTool(5)',
    'callTool({}, {})',
    'callTool("a", 1)',
    'callTool("a", [1])',
    'callTool("a", null)',
    'callTool("a", "{}")',
    'callTool("a", () => 1)',
    'callTool(Symbol("x"))',
  ])
    t.match(await errorOf(`await ${bad}`, { onCall }), /^TypeError: /, bad)
  t.match(await errorOf('await callTool("a", {n: 1n})', { onCall }), /BigInt/)
  t.match(await errorOf('const o = {}; o.o = o; await callTool("a", o)', { onCall }), /circular/)
  t.same(calls, [])
})

t.test('there is nothing of the host in a sandbox', async (t) => {
  const names = [
    'require',
    'module',
    'process',
    'global',
    'Buffer',
    'fetch',
    'XMLHttpRequest',
    'WebSocket',
    'setTimeout',
    'setInterval',
    'setImmediate',
    'queueMicrotask',
    'WebAssembly',
    'Atomics',
    'Worker',
    'Deno',
    'std',
    'os',
    'navigator',
    'performance',
    'structuredClone',
    'crypto',
  ]
  t.same(
    await valueOf(
      `return ${JSON.stringify(names)}.filter((name) => typeof globalThis[name] !== 'undefined')`,
    ),
    [],
  )
  t.match(await errorOf('await import("node:fs")'), /Error/)
  t.match(await errorOf('import fs from "fs"'), /SyntaxError/)
  t.equal(await valueOf('return (() => {}).constructor("return typeof process")()'), 'undefined')
  t.equal(
    await valueOf('return callTool.constructor("return typeof process")().constructor.name'),
    'Promise',
  )
  t.equal(
    await valueOf('return typeof console.log.constructor("return this")()?.process'),
    'undefined',
  )
  t.match(await errorOf('return eval("process.env")'), /ReferenceError/)
})

t.test('one script leaves nothing behind for the next', async (t) => {
  await run(
    'globalThis.leak = 1; Object.prototype.leak = 2; Array.prototype.map = null; JSON.parse = null',
  )
  for (let i = 0; i < 4; i++)
    t.same(
      await valueOf(
        'return [typeof leak, ({}).leak === undefined, typeof [].map, typeof JSON.parse]',
      ),
      ['undefined', true, 'function', 'function'],
    )
})

t.test(
  'games with prototypes and built-in objects reach no further than the script itself',
  async (t) => {
    const games = [
      'Object.prototype.then = (f) => f(1); return 5',
      'Object.prototype.error = {message: "x"}; return 5',
      'Promise.prototype.then = () => { throw 1 }; return 5',
      'JSON.stringify = () => "not json"; return 5',
      'Array.prototype.join = () => ({length: 1e9}); console.log("a", "b"); return 5',
      'String.prototype.toString = null; String = null; console.log(Symbol("x")); return 5',
      'Object.defineProperty(Object.prototype, "length", {get() { throw 1 }}); return 5',
      'return {toJSON: () => 5}',
      'globalThis.Promise = null; return 5',
    ]
    for (const game of games) {
      const outcome = await run(game)
      if (outcome.kind === 'value') t.equal(outcome.json, '5', game)
      else t.type(outcome.text, 'string', game)
    }
    t.same(
      await valueOf(
        'return {["__proto__"]: {polluted: 1}, constructor: {prototype: {polluted: 1}}}',
      ).then(() => ({}).constructor),
      Object,
    )
    t.equal(Reflect.get({}, 'polluted'), undefined)
    t.match(
      await errorOf('throw {get message() { for (;;); }}', { limits: { computeMs: 200 } }),
      /compute_seconds/,
    )
    t.match(
      await errorOf('throw {get message() { throw 1 }, get name() { throw 2 }}'),
      /has no text/,
    )
    t.match(
      await errorOf('return {toJSON() { for (;;); }}', { limits: { computeMs: 200 } }),
      /compute_seconds/,
    )
    t.match(await errorOf('throw new Proxy({}, {has() { throw 1 }})'), /has no text/)
  },
)

t.test('a script that computes for ever is ended', async (t) => {
  const endless = [
    'for (;;);',
    'for (;;) await 0',
    'const again = () => Promise.resolve().then(again); await again()',
    'const again = async () => { await null; again(); again() }; await again(); for (;;) await 1',
    '/(a+)+b/.test("a".repeat(60))',
    'try { for (;;); } catch { } finally { for (;;); }',
    'for (;;) { try { for (;;); } catch {} }',
    'await callTool("a"); for (;;);',
  ]
  for (const code of endless)
    t.match(
      await errorOf(code, { limits: { computeMs: 300 } }),
      /computed for more than 0\.3 s|InternalError: out of memory/,
      code,
    )
})

t.test(
  'a script that the engine does not interrupt is killed with its thread, and the next one runs',
  async (t) => {
    const code = '[1].concat(new Array(1e8)).sort()'
    t.match(await errorOf(code, { limits: { computeMs: 300 } }), /computed for more than 0\.3 s/)
    t.equal(await valueOf('return 1'), 1)
  },
)

t.test('bombs of memory and recursion end the script and nothing else', async (t) => {
  const bombs = [
    'const all = []; for (;;) all.push(new Uint8Array(1 << 20))',
    'let s = "x"; for (;;) s += s',
    '"x".repeat(1e9)',
    'const all = []; for (;;) all.push({all: [...all]})',
    'new Array(1e9).fill(0)',
    'const f = () => f(); f()',
    'let o = {}; for (let i = 0; i < 1e5; i++) o = {o}; return o',
    'JSON.parse("[".repeat(1e6))',
    'new ArrayBuffer(2 ** 31)',
    'const m = new Map(); for (let i = 0; ; i++) m.set(i, "x".repeat(1000) + i)',
    'let r = /x/; r = new RegExp("(".repeat(1e5) + ")".repeat(1e5))',
    'return eval("[".repeat(1e5))',
    'return JSON.stringify(new Proxy([], {get: (o, k) => k === "length" ? 1e9 : 0}))',
  ]
  for (const code of bombs) t.match(await errorOf(code), /Error/, code)
  t.equal(await valueOf('return 1'), 1)
})

t.test('a value that is too large or no JSON is refused, and says what to do', async (t) => {
  t.match(await errorOf('return "x".repeat(5000)'), /larger than 4096 bytes.*return less/)
  t.match(
    await errorOf('return "ä".repeat(2100)'),
    /larger than 4096 bytes/,
    'bytes, not characters',
  )
  t.match(await errorOf('return 10n'), /no JSON/)
  t.match(await errorOf('const o = {}; o.o = o; return o'), /no JSON/)
  t.equal(await valueOf('return () => 1'), undefined)
})

t.test('what is printed is kept up to its limit, also when the script fails', async (t) => {
  const said = await run(
    'console.log("a", 1, {b: [true]}, null, undefined); console.error(new TypeError("x")); return 1',
  )
  t.same(said.printed, { text: 'a 1 {"b":[true]} null undefined\nTypeError: x', isCut: false })
  const failed = await run('console.log("before"); null.f()')
  t.equal(failed.kind, 'error')
  t.equal(failed.printed.text, 'before')
  const flood = await run('for (let i = 0; i < 1e5; i++) console.log("line", i); return 1')
  t.equal(flood.printed.isCut, true)
  t.ok(Buffer.byteLength(flood.printed.text) <= LIMITS.maxConsoleBytes)
  const giant = await run('console.log("x".repeat(1e7)); console.log("small"); return 1')
  t.same(giant.printed, { text: 'small', isCut: true })
  const nothing = await run('console.log({get a() { throw 1 }}); return 1', {})
  t.equal(nothing.printed.text, '[object Object]')
})

t.test('calls beyond their number are refused in the script, however many it tries', async (t) => {
  let calls = 0
  const onCall = ({ answer }: Call): void => {
    calls++
    answer({ result: 1 })
  }
  const code = `const all = await Promise.allSettled(Array.from({length: 5000}, () => callTool("a")))
return all.filter((one) => one.status === 'fulfilled').length`
  t.equal(await valueOf(code, { onCall }), LIMITS.maxToolCalls)
  t.equal(calls, LIMITS.maxToolCalls)
  t.match(await errorOf('for (;;) await callTool("a")', { onCall }), /max_tool_calls/)
})

t.test('a script that waits for nothing, or is not awaited, ends', async (t) => {
  t.match(await errorOf('await new Promise(() => {})'), /never come/)
  t.equal(
    await valueOf('callTool("a"); return 1', { onCall: () => {} }),
    1,
    'its call is forgotten',
  )
  t.equal(await valueOf('return 2'), 2)
})

t.test('a script that waits too long for a tool is ended; waiting is no computing', async (t) => {
  t.equal(
    await valueOf('return callTool("a")', { onCall: answerLate, limits: { computeMs: 400 } }),
    1,
  )
  t.match(
    await errorOf('await callTool("a")', { onCall: () => {}, timeoutMs: 300 }),
    /timeout_seconds/,
  )
})

t.test('a script that is killed ends at once, and its place is free', async (t) => {
  for (const code of ['for (;;);', 'await callTool("a")']) {
    const running = start(code, { onCall: () => {}, limits: { computeMs: 60_000 } })
    running.kill('the client cancelled it')
    const outcome = await within('the end', running.outcome)
    t.match(outcome, { kind: 'error', text: 'Error: the client cancelled it' })
  }
  t.equal(await valueOf('return 1'), 1)
})

t.test(
  'scripts beyond the places wait; beyond those, and beyond a session’s own, they are refused',
  async (t) => {
    const waits: Call[] = []
    const onCall = (call: Call): void => void waits.push(call)
    const own = [
      start('return callTool("a")', { onCall, owner: 's' }),
      start('return callTool("a")', { onCall, owner: 's' }),
    ]
    t.throws(() => start('return 1', { owner: 's' }), /max_scripts_per_session/)
    const queued = Array.from({ length: 8 }, (_, n) => start(`return ${n}`))
    t.throws(() => start('return 1'), /too many scripts/)
    queued[3]?.kill('cancelled while it waited')
    t.match(await queued[3]?.outcome, { kind: 'error' })
    await eventually('both ask', () => waits.length === 2)
    for (const call of waits) call.answer({ result: 'late' })
    t.match(await Promise.all(own.map((one) => one.outcome)), [
      { json: '"late"' },
      { json: '"late"' },
    ])
    const values = await within('those that waited', Promise.all(queued.map((one) => one.outcome)))
    t.same(
      values.map((one) => (one.kind === 'value' ? one.json : 'killed')),
      ['0', '1', '2', 'killed', '4', '5', '6', '7'],
    )
    t.equal(await valueOf('return 1', { owner: 's' }), 1)
  },
)

t.test('scripts whose calls hang leave a place for those of another server', async (t) => {
  const shared = new SandboxPool({ maxScripts: 2, maxScriptsPerSession: 2 }, 2)
  t.teardown(() => shared.close())
  const order = (server: string, code: string) =>
    shared.start({
      code,
      limits: LIMITS,
      timeoutMs: 20_000,
      server,
      owner: null,
      onCall: () => {},
    })
  const hanging = Array.from({ length: 5 }, () => order('hanging', 'await callTool("a")'))
  t.notOk(hanging.some((one) => typeof one === 'string'))
  t.match(order('hanging', 'return 1'), /too many scripts/, 'its own queue is full')
  const other = order('other', 'return 1')
  if (typeof other === 'string') throw new Error(other)
  t.match(await within('the other script', other.outcome), { kind: 'value' })
  for (const one of hanging) if (typeof one !== 'string') one.kill('that is enough')
  for (const one of hanging) {
    const text = 'Error: that is enough'
    if (typeof one !== 'string') t.match(await one.outcome, { kind: 'error', text })
  }
  const after = order('hanging', 'return 2')
  if (typeof after === 'string') throw new Error(after)
  t.match(await within('one more', after.outcome), { kind: 'value' }, 'its places are free again')
})
