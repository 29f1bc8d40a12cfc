/** Clients that take what they can, beside one that is well-behaved and notices nothing. */
import t, { type Test } from 'tap'

import { eventually } from '../support/eventually.ts'
import { FileRig, INITIALIZE } from '../support/file-rig.ts'
import { beside } from '../support/neighbour.ts'
import { openDescriptors } from '../support/process-stats.ts'
import { HOST, mcpPost, pathOf, RawConnection, sized } from '../support/raw-http.ts'

t.setTimeout(600_000)

const MAX_GROWTH_MIB = 320
const MAX_ACTIVE = 400

const rig = await FileRig.start({
  core: { workers: 1, max_message_bytes: '8Mi' },
  sessions: { max_active: MAX_ACTIVE },
  uploads: { max_file_bytes: '4Mi' },
})
t.teardown(() => rig.stop())

function misbehaving(title: string, misbehave: (t: Test) => Promise<void>): void {
  beside(t, rig, title, MAX_GROWTH_MIB, misbehave)
}

const inSession = (session: string): string => `Mcp-Session-Id: ${session}\r\n`

misbehaving(
  'streams that are opened and never read cost little, and go with their clients',
  async (t) => {
    const readers: { stop(): void }[] = []
    const before = openDescriptors(rig.replica.pid)
    const sessions: string[] = []
    for (let n = 0; n < 50; n++) sessions.push(await rig.openSession())
    const connections = sessions.flatMap((session) =>
      Array.from({ length: 4 }, () => {
        const connection = new RawConnection(rig.port)
        readers.push(connection.readSlowly(0))
        return connection.send(
          `GET /mcp/files HTTP/1.1\r\n${HOST}Accept: text/event-stream\r\n${inSession(session)}\r\n`,
        )
      }),
    )
    const calls = sessions.map((session) => {
      const connection = new RawConnection(rig.port)
      readers.push(connection.readSlowly(0))
      const body = JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'echo', arguments: { text: 'e'.repeat(1_000_000) } },
      })
      return connection.send(mcpPost(inSession(session) + sized(body), body))
    })
    await eventually('they are open', () => openDescriptors(rig.replica.pid) > before + 100)
    for (const session of sessions.slice(0, 10))
      t.ok(await rig.serves(session), 'their sessions are served')
    for (const reader of readers) reader.stop()
    for (const connection of [...connections, ...calls]) connection.destroy()
    await eventually('they are gone', () => openDescriptors(rig.replica.pid) < before + 100)
  },
)

misbehaving(
  'uploads that are begun and cut, dripped or claimed to be large leave no byte',
  async (t) => {
    const session = await rig.openSession()
    // The neighbour's own files come and go: what the session keeps is seen in its own quota, so only its uploads are looked at.
    for (let round = 0; round < 5; round++) {
      const connections: RawConnection[] = []
      for (let n = 0; n < 20; n++) {
        const path = pathOf(await rig.uploadUrl(session))
        const connection = new RawConnection(rig.port)
        connection.send(`PUT ${path} HTTP/1.1\r\n${HOST}Content-Length: 4000000\r\n\r\n`)
        connection.send(Buffer.alloc(n * 50_000))
        connections.push(connection)
      }
      for (const connection of connections) connection.destroy()
    }
    await eventually('nothing is reserved any more', async () => {
      const { reserved_bytes: reserved } = await rig.inventory()
      return reserved === 0
    })
    const handle = await rig.upload(session, 'whole')
    t.match(
      (await rig.call(session, 'read_file', { path: handle })).text,
      /sha256/,
      'and a whole one is kept',
    )
  },
)

misbehaving(
  'many large messages at once, whole and never finished, are taken, refused or held to their limit',
  async (t) => {
    const session = await rig.openSession()
    const body = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'echo', arguments: { text: 'm'.repeat(4_000_000) } },
    })
    const unfinished = Array.from({ length: 30 }, () =>
      new RawConnection(rig.port).send(
        mcpPost(`${inSession(session)}Content-Length: 8000000\r\n`, body.slice(0, 2_000_000)),
      ),
    )
    const answers = await Promise.all(
      Array.from({ length: 16 }, async () => {
        const { status } = await rig.post(body, session)
        return status
      }),
    )
    t.ok(
      answers.every((status) => [200, 429, 503].includes(status)),
      answers.join(),
    )
    const tooLarge = await rig.post(`${body}${' '.repeat(8 * 1024 ** 2)}`, session)
    t.equal(tooLarge.status, 413)
    for (const connection of unfinished) connection.destroy()
    t.ok(await rig.serves(session))
  },
)

misbehaving(
  'thousands of guesses of sessions, handles and links find nothing and cost nothing lasting',
  async (t) => {
    const owner = await rig.openSession()
    const handle = await rig.upload(owner, 'private')
    const thief = await rig.openSession()
    const statuses = new Set<number>()
    for (let n = 0; n < 40; n++) {
      const guesses = await Promise.all(
        Array.from({ length: 25 }, async (_, index) => {
          const id = `${owner.slice(0, 28)}${String(n * 25 + index).padStart(4, '0')}`
          const { status } = await rig.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, id)
          return status
        }),
      )
      for (const status of guesses) statuses.add(status)
    }
    t.same([...statuses], [404])
    t.match((await rig.call(thief, 'read_file', { path: handle })).message, {
      result: { isError: true },
    })
    t.match((await rig.call(owner, 'read_file', { path: handle })).text, /sha256/)
  },
)

misbehaving('a flood of sessions meets its limit, and whoever has one keeps it', async (t) => {
  const kept = await rig.openSession()
  const statuses: number[] = []
  for (let n = 0; n < 12; n++) {
    statuses.push(
      ...(await Promise.all(
        Array.from({ length: 50 }, async () => (await rig.post(INITIALIZE)).status),
      )),
    )
  }
  t.same(
    new Set(statuses),
    new Set([200, 429]),
    'some are opened, and the rest is told that there are too many',
  )
  t.ok(statuses.filter((status) => status === 200).length < MAX_ACTIVE)
  t.ok(await rig.serves(kept))
})
