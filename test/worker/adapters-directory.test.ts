/** Files that calls leave in the session's directory: whose they are, which are kept, and what a session may leave there. */
import { appendFile, mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setInterval } from 'node:timers'

import t from 'tap'

import type { PreparedCall } from '../../src/worker/adapters/adapter.ts'
import { artifactMeta, at, contentOf, firstText, leftovers } from './adapters-fixture.ts'
import { openFixture, prepared, refusalOf } from './adapters-fixture.ts'

const SAID = { content: [{ type: 'text', text: 'done' }] }

async function openRooted(t: Parameters<typeof openFixture>[0], rest: object = {}) {
  const fixture = await openFixture(t, {
    adapters: [
      { type: 'artifact_producer', tools: ['make'], output_locator: { mode: 'directory' } },
    ],
    server: { upstream: { session_root: { enabled: true } } },
    rest,
  })
  const { context } = fixture
  const directory = context.services.files.sessionDir(context.key)
  const put = (name: string, content: string) => writeFile(join(directory, name), content)
  return { ...fixture, directory, put }
}

/** Names of the artifacts that a finished call has links to. */
async function namesOf(call: PreparedCall, result: Readonly<Record<string, unknown>> = SAID) {
  const { result: finished } = await call.finish(result)
  const all = at(finished, '_meta', 'artifacts')
  const list = Array.isArray(all) ? all : [artifactMeta(finished)]
  return list.flatMap((one) => at(one, 'filename') ?? [])
}

t.test('of two calls that end at the same moment one gets what nobody names', async (t) => {
  const { context, put } = await openRooted(t)
  const calls = await Promise.all([1, 2].map(() => prepared(context, 'make', {})))
  await put('a.txt', 'a')
  await put('b.txt', 'b')
  const names = await Promise.all(calls.map((call) => namesOf(call)))
  t.same(new Set(names.flat()), new Set(['a.txt', 'b.txt']))
  t.same(await leftovers(context), { files: 2, records: 2 }, 'each once')
})

t.test('a call that is given up leaves its files to the others', async (t) => {
  const { context, put } = await openRooted(t)
  const [first, second] = await Promise.all([1, 2].map(() => prepared(context, 'make', {})))
  await put('a.txt', 'a')
  await first?.abandon()
  t.same(second && (await namesOf(second)), ['a.txt'])
  const third = await prepared(context, 'make', {})
  t.same(await namesOf(third), [], 'what was there before a call is none of its own')
})

t.test('what failed, or is not complete, made no file', async (t) => {
  const { context, put } = await openRooted(t)
  for (const result of [
    { ...SAID, isError: true },
    { resultType: 'task', task: {} },
    { resultType: 'input_required' },
  ]) {
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    const call = await prepared(context, 'make', {})
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    await put('a.txt', JSON.stringify(result))
    // oxlint-disable-next-line no-await-in-loop -- one case after the other
    t.same(await namesOf(call, result), [])
  }
  const call = await prepared(context, 'make', {})
  await put('b.txt', 'b')
  t.same(await namesOf(call), ['b.txt'], 'and nothing of them is left under way')
})

t.test('a file that is still written to is waited for, but not for ever', async (t) => {
  const { context, directory, put } = await openRooted(t)
  const call = await prepared(context, 'make', {})
  await put('whole.txt', 'whole')
  await put('endless.txt', '')
  const writing = setInterval(() => void appendFile(join(directory, 'endless.txt'), '.'), 1)
  t.teardown(() => clearInterval(writing))
  const { result } = await call.finish(SAID)
  t.equal(artifactMeta(result)?.['filename'], 'whole.txt')
  t.equal(await contentOf(context, result), 'whole')
  t.match(JSON.stringify(result), "1 more of the tool's files could not be kept")
  clearInterval(writing)
  t.same(await leftovers(context), { files: 1, records: 1 }, 'nothing half is kept')
})

t.test('files of which none can be kept are told of', async (t) => {
  const { context, directory, put } = await openRooted(t)
  const call = await prepared(context, 'make', {})
  await put('huge.bin', '')
  await truncate(join(directory, 'huge.bin'), 2 * 1024 ** 3)
  const { result } = await call.finish(SAID)
  t.equal(result['isError'], true)
  t.match(firstText(result), 'none of its 1 files could be kept')
})

t.test('a directory that holds more than a session may ends its calls', async (t) => {
  const { context, put } = await openRooted(t, { sessions: { max_total_session_size: 1_000 } })
  const call = await prepared(context, 'make', {})
  await put('large.bin', 'x'.repeat(2_000))
  await call.abandon()
  t.match(await refusalOf(context, 'make', {}), /2000 bytes of files in its directory.*1000 bytes/)
  t.match(await refusalOf(context, 'make', {}), /Start a new session/, 'and again')
})

t.test('files of other sessions are not seen', async (t) => {
  const { context, stranger, put } = await openRooted(t)
  const call = await prepared(stranger, 'make', {})
  await mkdir(context.services.files.sessionDir(context.key), { recursive: true })
  await put('a.txt', 'a')
  t.same(await namesOf(call), [])
})
