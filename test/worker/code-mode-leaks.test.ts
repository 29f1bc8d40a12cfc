/** Scripts in thousands: what they used is given back. */
import t from 'tap'

import { SandboxPool } from '../../src/worker/code-mode/sandbox-pool.ts'
import { within } from '../support/eventually.ts'

const LIMITS = {
  computeMs: 5_000,
  memoryBytes: 32 * 1024 * 1024,
  maxToolCalls: 5,
  maxOutputBytes: 4_096,
  maxConsoleBytes: 1_024,
}
const CODES = [
  'return 1',
  'null.f()',
  'return callTool("answered", {x: "y".repeat(1000)})',
  'console.log("x".repeat(500)); return [1]',
  'const a = []; for (let i = 0; i < 1000; i++) a.push({i}); return a.length',
  'callTool("never"); return 1',
  'const bytes = new Uint8Array(1e6).fill(1); return bytes.length',
]
const pool = new SandboxPool({ maxScripts: 2, maxScriptsPerSession: 2 })
t.setTimeout(180_000)
t.teardown(() => pool.close())

async function run(code: string): Promise<void> {
  const running = pool.start({
    code,
    limits: LIMITS,
    timeoutMs: 20_000,
    server: 'one',
    owner: 'one',
    onCall: (call, tool) => {
      if (tool === 'answered' && typeof running !== 'string') running.answer(call, '{"result":1}')
    },
  })
  if (typeof running === 'string') throw new Error(running)
  await within(`the end of ${code}`, running.outcome, 25_000)
}

async function runMany(count: number): Promise<void> {
  for (let i = 0; i < count; i += 2) {
    const [one, other] = [CODES[i % CODES.length] ?? '', CODES[(i + 1) % CODES.length] ?? '']
    await Promise.all([run(one), run(other)])
  }
}

t.test('thousands of scripts, good and bad, leave no threads and no memory behind', async (t) => {
  await runMany(400)
  const before = process.memoryUsage().rss
  await runMany(1_800)
  const grown = process.memoryUsage().rss - before
  t.ok(grown < 64 * 1024 * 1024, `grew by ${Math.round(grown / 1024 / 1024)} MiB`)
  t.ok(pool.threads <= 2, `${pool.threads} threads`)
})
