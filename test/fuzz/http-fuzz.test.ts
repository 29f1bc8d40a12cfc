/** The fuzzer for a few seconds with the seeds of the long runs, and that it would notice what it looks for. */
import t from 'tap'

import { checkAnswers } from './answer-check.ts'
import { runCase } from './case-run.ts'
import { caseOf, type FuzzCase } from './fuzz-case.ts'
import { FuzzClient } from './fuzz-client.ts'
import { FuzzTarget } from './fuzz-target.ts'
import { HttpFuzzer } from './http-fuzzer.ts'
import { minimise } from './minimise.ts'
import { Random } from './random.ts'
import type { FuzzWorld } from './fuzz-world.ts'

t.setTimeout(120_000)

/** Seeds of the long runs. Each begins here as it began there. */
const SEEDS = [20_261_126, 4_004, 261_126]
/** Cases that were findings: answers whose connection closed while their head was on its way, taken for malformed ones; batches that the upstream took without an answer; a content type that came twice. */
const ONCE_FOUND = [
  [20_261_126, 1, 2_783],
  [20_261_126, 6, 4_143],
  [20_261_126, 5, 5_057],
  [261_126, 2, 702],
  [261_126, 0, 3_144],
  [505, 4, 2_951],
]
const LANES = 8
const CASES_A_LANE = 16

const WORLD: FuzzWorld = {
  token: 'token',
  sessions: { files: 'F'.repeat(32), hostile: 'H'.repeat(32) },
  handle: `upload://sessions/${'F'.repeat(32)}/${'U'.repeat(22)}`,
  artifactUri: `artifact://sessions/${'F'.repeat(32)}/${'A'.repeat(22)}/r.txt`,
  uploadTarget: '/upload/files?mcp_upload_session=F&mcp_upload_sig=0',
  downloadTarget: `/artifacts/files/${'F'.repeat(32)}/${'A'.repeat(22)}/r.txt?mcp_artifact_sig=0`,
}

t.test('an adapter that is sent what the long runs began with is none the worse', async (t) => {
  const target = await FuzzTarget.start()
  for (const seed of SEEDS) {
    const fuzzer = new HttpFuzzer(target, {
      seed,
      lanes: LANES,
      isOver: (cases) => cases >= CASES_A_LANE,
      cpuShare: 2,
    })
    await fuzzer.run()
    t.same(fuzzer.findings, [], `seed ${seed}`)
    t.equal(fuzzer.cases, LANES * CASES_A_LANE)
    t.ok(fuzzer.wellBehaved > 0, 'a well-behaved client was served beside it')
    t.ok(fuzzer.statuses.has(200) && fuzzer.statuses.has(400), 'some were good, some bad')
  }
  const client = new FuzzClient(target)
  for (const seed of ONCE_FOUND) {
    const { problem } = await runCase(target, caseOf(seed, await client.renew()))
    t.equal(problem, undefined, `case ${seed.join(' ')}`)
  }
  t.equal(await target.stop(), 0)
})

t.test('a seed stands for the same case each time', async (t) => {
  for (let number = 0; number < 200; number++)
    t.same(caseOf([7, 0, number], WORLD), caseOf([7, 0, number], WORLD))
  t.not(new Random(1, 2).next(), new Random(12).next(), 'parts of a seed do not run together')
})

t.test('answers that are not HTTP/1.1 are told from those that are', async (t) => {
  const ok = 'HTTP/1.1 200 OK\r\n'
  for (const good of [
    `${ok}Content-Length: 2\r\n\r\nhi${ok}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n`,
    `${ok}Connection: close\r\n\r\nanything`,
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n`,
    'HTTP/1.1 2',
  ])
    t.equal(problemOf(good), undefined, JSON.stringify(good))
  for (const bad of [
    'hello\r\n\r\n',
    `${ok}\r\nbody without an end`,
    `${ok}Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi`,
    `${ok}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi`,
    `${ok}Content-Length: 2\r\n\r\nhi and more`,
    `${ok}X: \u0001\r\nContent-Length: 0\r\n\r\n`,
    `${ok}Bad Name: x\r\nContent-Length: 0\r\n\r\n`,
    `${ok}Transfer-Encoding: chunked\r\n\r\nx\r\n`,
    'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n',
  ])
    t.type(problemOf(bad), 'string', JSON.stringify(bad))
})

t.test('a case that fails is made as small as what makes it fail', async (t) => {
  const bytes = Buffer.from(
    `GET / HTTP/1.1\r\nHost: x\r\nX-Bad: 1\r\nX: y\r\n\r\n${'z'.repeat(500)}`,
  )
  const blind = await minimise({ pieces: [bytes], isWhole: false, ending: 'wait' }, isBad)
  t.ok(Buffer.concat(blind.pieces).byteLength < 10)
  const whole = await minimise({ pieces: [bytes], isWhole: true, ending: 'wait' }, isBad)
  t.match(Buffer.concat(whole.pieces).toString(), /^GET \/ HTTP\/1.1\r\nX-Bad: 1\r\n\r\nz+$/)
})

function problemOf(text: string): string | undefined {
  return checkAnswers(text, { mayBeHead: false, isClosed: false }).problem
}

function isBad({ pieces }: FuzzCase): Promise<boolean> {
  return Promise.resolve(Buffer.concat(pieces).includes('Bad'))
}
