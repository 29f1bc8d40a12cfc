/** An upstream whose answers mean harm, on the same worker as a well-behaved one, whose client notices nothing. */
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import t from 'tap'

import { HostileRig } from '../support/hostile-rig.ts'
import {
  beginStream,
  event,
  idOf,
  sendJson,
  sendResult,
  type ReceivedRequest,
  type Script,
} from '../support/upstreams/scripted-upstream.ts'
import { initialize, messagesIn, WireSession } from '../support/wire.ts'

t.setTimeout(600_000)

const hostile = await HostileRig.start(t)
const { scripted, url } = hostile
const rig = hostile.files

/** Does what `make` is asked to; answers the path. */
async function writeWhereAsked({ json }: ReceivedRequest): Promise<string> {
  const { params } = json as { params: { arguments: { path: string } } } // a `tools/call make`
  await mkdir(dirname(params.arguments.path), { recursive: true })
  await writeFile(params.arguments.path, 'made')
  return params.arguments.path
}

hostile.beside(
  'answers that nobody asked for, twice, or with endless ids reach nobody else',
  async (t) => {
    const session = await WireSession.open(url)
    const other = await WireSession.open(url)
    scripted.scripts.set('tools/call make', async (request, response) => {
      const saved = await writeWhereAsked(request)
      const id = idOf(request)
      const answer = {
        jsonrpc: '2.0',
        id,
        result: { content: [{ type: 'text', text: `saved ${saved}` }] },
      }
      beginStream(response)
      response.write(event({ jsonrpc: '2.0', id: 4711, result: { content: [] } }))
      response.write(event({ jsonrpc: '2.0', id: 'x'.repeat(1_000_000), result: {} }))
      response.write(event({ jsonrpc: '2.0', id: null, error: { code: 1, message: 'no' } }))
      response.write(event({ jsonrpc: '2.0', id: [id], result: {} }))
      response.write(event(answer, 'e'.repeat(100_000)))
      response.write(event(answer))
      response.end(event({ ...answer, result: { content: [{ type: 'text', text: 'second' }] } }))
    })
    const stream = await session.stream(
      session.message('tools/call', { name: 'make', arguments: { path: 'x' } }),
    )
    await stream.ended
    const answers = messagesIn(stream.text()).filter(
      ({ id, result }) => typeof id === 'number' && id !== 4711 && result !== undefined,
    )
    t.ok(JSON.stringify(answers[0]).includes('artifact://'), 'the first answer is the answer')
    t.notOk(
      stream.text().includes(`${rig.replica.root}/sessions`) &&
        answers.length > 1 &&
        JSON.stringify(answers.slice(1)).includes('artifact://'),
      'and makes the one artifact',
    )
    const listed = (await session.request('resources/list')).json().result as {
      resources: unknown[]
    } // as the specification has it
    t.equal(
      listed.resources.filter((entry) => JSON.stringify(entry).includes('artifact://')).length,
      1,
    )
    t.same(
      ((await other.request('resources/list')).json().result as { resources?: unknown[] })
        .resources ?? [],
      [],
      'another session has nothing',
    )

    for (const id of ['s'.repeat(60_000), 'a b', '../../etc', 'é', '', '{"a":1}']) {
      scripted.scripts.set('initialize', (request, response) =>
        sendJson(
          response,
          {
            jsonrpc: '2.0',
            id: idOf(request),
            result: {
              protocolVersion: '2025-06-18',
              capabilities: {},
              serverInfo: { name: 'h', version: '1' },
            },
          },
          { 'mcp-session-id': Buffer.from(id).toString('latin1') },
        ),
      )
      const answer = await initialize(url)
      t.ok(
        [200, 502].includes(answer.status),
        `a session id of ${id.length} characters: ${answer.status}`,
      )
      if (answer.status !== 200) continue
      t.match(String(answer.headers['mcp-session-id']), /^[\w-]{32}$/, 'clients get an id of ours')
    }
  },
)

hostile.beside(
  'wrong types and encodings of content are passed on or refused, and nothing waits',
  async (t) => {
    const session = await WireSession.open(url)
    const answers: readonly (readonly [what: string, script: Script])[] = [
      ['no content type', (_r, response) => void response.writeHead(200).end('{}')],
      [
        'HTML',
        (_r, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
      ],
      [
        'JSON that is an event stream',
        (_r, response) =>
          void response
            .writeHead(200, { 'content-type': 'text/event-stream' })
            .end('{"jsonrpc":"2.0"}'),
      ],
      [
        'an event stream that is JSON',
        (_r, response) =>
          void response.writeHead(200, { 'content-type': 'application/json' }).end('data: {}\n\n'),
      ],
      [
        'a content encoding that is a lie',
        (_r, response) =>
          void response
            .writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
            .end('{}'),
      ],
      ['202 to a request', (_r, response) => void response.writeHead(202).end()],
      ['204', (_r, response) => void response.writeHead(204).end()],
      [
        'a redirect to elsewhere',
        (_r, response) =>
          void response.writeHead(302, { location: `http://127.0.0.1:${rig.port}/healthz` }).end(),
      ],
      [
        'a redirect that keeps the method',
        (_r, response) =>
          void response.writeHead(307, { location: `http://127.0.0.1:${hostile.rawPort}/` }).end(),
      ],
    ]
    hostile.raw = (socket) => {
      t.fail('a redirect was followed')
      socket.destroy()
    }
    for (const [what, script] of answers) {
      for (const name of ['tools/list', 'tools/call make', 'tools/call plain'])
        scripted.scripts.set(name, script)
      for (const answer of [
        await session.request('tools/list'),
        await session.call('make', { path: 'x' }),
        await session.call('plain'),
      ])
        t.ok(answer.status >= 200, `${what}: ${answer.status}`)
      scripted.scripts.set('initialize', script)
      t.ok((await initialize(url)).status >= 200, `initialize: ${what}`)
      scripted.scripts.delete('initialize')
    }
    t.equal((await session.request('ping')).status, 200)
  },
)

hostile.beside(
  'paths into other sessions, out of the storage and through links become nobody’s artifact',
  async (t) => {
    const victim = await WireSession.open(url)
    const thief = await WireSession.open(url)
    scripted.scripts.set('tools/call make', async (request) => {
      const { params } = request.json as { params: { arguments: { path: string } } } // a `tools/call make`
      await mkdir(dirname(params.arguments.path), { recursive: true })
      await writeFile(params.arguments.path, 'of the victim')
      sendResult(request, { content: [{ type: 'text', text: `saved ${params.arguments.path}` }] })
    })
    t.match((await victim.call('make', { path: 'x' })).body, /artifact:\/\//)
    const stored = (
      await readdir(join(rig.replica.root, 'sessions'), { recursive: true, withFileTypes: true })
    )
      .filter((entry) => entry.isFile() && entry.parentPath.includes(victim.id))
      .map((entry) => join(entry.parentPath, entry.name))
    t.ok(stored.length > 0, 'the victim’s file is there')
    const targets = [
      ...stored,
      join(rig.replica.root, 'state', 'signing-secret'),
      '/etc/passwd',
      '/proc/self/environ',
      '/dev/zero',
      rig.replica.root,
    ]
    for (const target of targets) {
      for (const how of ['named', 'linked', 'linked directory', 'embedded'] as const) {
        scripted.scripts.set('tools/call make', async (request) => {
          const { params } = request.json as { params: { arguments: { path: string } } } // a `tools/call make`
          const own = params.arguments.path
          await mkdir(dirname(own), { recursive: true })
          if (how === 'linked') await symlink(target, own).catch(() => {})
          if (how === 'linked directory')
            await symlink(dirname(target), join(dirname(own), 'to')).catch(() => {})
          const named =
            how === 'linked'
              ? own
              : how === 'linked directory'
                ? join(dirname(own), 'to', target.split('/').at(-1) ?? '')
                : target
          const content =
            how === 'embedded'
              ? [{ type: 'resource_link', uri: `file://${target}`, name: 'x' }]
              : [{ type: 'text', text: `saved ${named}` }]
          sendResult(request, { content, structuredContent: { path: named } })
        })
        const answer = await thief.call('make', { path: 'x' })
        t.notMatch(
          answer.body,
          /artifact:\/\//,
          `${how}: ${target.slice(0, 60).replace(victim.id, '…')}`,
        )
      }
    }
    t.match(
      (await victim.request('resources/list')).body,
      /artifact:\/\//,
      'the victim still has its own',
    )
  },
)
