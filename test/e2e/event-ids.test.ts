/**
 * Who may go on after which event, where the upstream keeps no sessions and takes all clients of the adapter for one: each client after those that it was
 * given.
 */
import t from 'tap'

import { startReplica } from '../support/replica.ts'
import { LISTS_LEFT_ALONE, serversBefore } from '../support/server-section.ts'
import {
  beginStream,
  event,
  startScriptedUpstream,
} from '../support/upstreams/scripted-upstream.ts'
import { messagesIn, WireSession } from '../support/wire.ts'

t.setTimeout(120_000)

const upstream = await startScriptedUpstream({ stateless: true })
const server = serversBefore(upstream.url)
const replica = await startReplica({
  config: {
    core: {
      workers: 2,
      auth: {
        enabled: true,
        tokens: [
          { name: 'alice', token: 'token of alice' },
          { name: 'mallory', token: 'token of mallory' },
        ],
      },
    },
    servers: [server('plain', LISTS_LEFT_ALONE), server('watched')],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
})

const idsIn = (text: string): string[] =>
  text.split(/\r\n|\n|\r/).flatMap((line) => (line.startsWith('id:') ? [line.slice(3).trim()] : []))

for (const id of ['plain', 'watched']) {
  const open = (name: string): Promise<WireSession> =>
    WireSession.open(`${replica.url}/${id}`, {
      headers: { authorization: `Bearer token of ${name}` },
    })

  /** What the upstream is asked to go on after. */
  const asked = async (session: WireSession, eventId: string): Promise<unknown> => {
    const stream = await session.get({ 'last-event-id': eventId })
    await stream.ended
    return upstream.requests('GET').at(-1)?.headers['last-event-id']
  }

  t.test(`${id}: only the client that an event was given to goes on after it`, async (t) => {
    upstream.scripts.set('tools/call', (_request, response) => {
      beginStream(response)
      const progress = { jsonrpc: '2.0', method: 'notifications/progress', params: {} }
      // The rest of the answer is to come when the client goes on.
      response.end(event(progress, 'secret-17'), () => response.destroy())
    })
    upstream.scripts.set('GET', (request, response) => {
      beginStream(response)
      const answer = { jsonrpc: '2.0', id: 1, result: { after: request.headers['last-event-id'] } }
      response.end(event(answer, 'secret-18'))
    })
    const [alice, mallory] = [await open('alice'), await open('mallory')]
    const call = await alice.stream(alice.message('tools/call', { name: 'slow' }))
    await call.ended
    const [given = ''] = idsIn(call.text())
    t.match(given, /^[0-9a-f]{64}-secret-17$/)
    t.equal(await asked(mallory, 'secret-17'), undefined, 'a guessed one')
    t.equal(await asked(mallory, given), undefined, 'a stolen one')
    t.equal(await asked(mallory, given.replace('17', '18')), undefined)
    t.equal(await asked(await open('alice'), given), undefined, 'one of another session')
    const resumed = await alice.get({ 'last-event-id': given })
    await resumed.ended
    t.match(messagesIn(resumed.text()), [{ result: { after: 'secret-17' } }])
    const [next = ''] = idsIn(resumed.text())
    t.equal(await asked(alice, next), 'secret-18', 'and on from there')
  })

  t.test(`${id}: nothing else in a stream changes, however it is cut`, async (t) => {
    const answer = `{"jsonrpc":"2.0","id":"id","result":{"id":"\\nid: x","i":1}}`
    const lines = (name: (id: string) => string): string =>
      [
        ': id: 0\n',
        `id: ${name('a b')}\r\nevent: message\r\ndata: {"jsonrpc":"2.0","method":"n"}\r\n\r\n`,
        `data:  ${answer}\rid:${name('é-1')}\r\r`,
        `id\nid:\nretry: 10\nidx: 1\n id: 2\ndata: id: 3\n\n`,
        `id: ${name('z')}\n\nid: ${name('last')}`,
      ].join('')
    const sent = Buffer.from(lines((eventId) => eventId))
    const session = await open('alice')
    for (const size of [1, 2, 3, 5, sent.length]) {
      upstream.scripts.set('tools/call', async (_request, response) => {
        beginStream(response)
        for (let at = 0; at < sent.length; at += size) {
          await new Promise((resolve) => response.write(sent.subarray(at, at + size), resolve))
        }
        response.end()
      })
      const stream = await session.stream(session.message('tools/call', { name: 'x' }))
      await stream.ended
      // A stream may begin with a comment of ours.
      const text = stream.text().replace(/^:\n\n/, '')
      const given = new Map(
        [...text.matchAll(/[0-9a-f]{64}-([^\r\n]+)/g)].map(([all, eventId = '']) => [eventId, all]),
      )
      t.strictSame([...given.keys()], ['a b', 'é-1', 'z', 'last'])
      t.equal(
        text,
        lines((eventId) => given.get(eventId) ?? ''),
      )
    }
  })
}
