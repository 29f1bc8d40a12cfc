/** Who is believed on the hop: only replicas, each request once, and only answers of replicas. */
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'

import t from 'tap'

import { MAX_CLOCK_SKEW_MS, ReplayGuard } from '../../src/primary/listener/replay-guard.ts'
import { digestOf, HopSigner, mintSender, SEAL_HEADER } from '../../src/shared/hop-seal.ts'
import { encodeHopRequest } from '../../src/shared/hop-request.ts'
import type { Log } from '../../src/shared/log.ts'
import { within } from '../support/eventually.ts'
import {
  answering,
  Gossip,
  MemoryUpstream,
  pair,
  post,
  SECRET,
  SERVER,
  silent,
  startHopReplica,
} from './hop-fixture.ts'
import { Witness } from './upstream-fixture.ts'

t.setTimeout(120_000)

t.test('what answers without a key is not believed, whatever it says', async (t) => {
  const impostor = createServer((_request, response) => {
    response.writeHead(404, { 'x-mcp-hop-outcome': 'gone', 'x-mcp-hop-proof': 'A'.repeat(43) })
    response.end('{}')
  })
  await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve))
  t.teardown(() => impostor.close())
  const { gossip, holder, other } = await pair(t, silent)
  // A listening TCP server has such an address.
  const { port } = impostor.address() as AddressInfo
  gossip.appear(holder.replicaId, `http://127.0.0.1:${port}`)
  const witness = new Witness()
  other.upstream.call(post(holder), witness)
  await within('it fails', witness.over)
  t.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(witness.heads, 0)
})

t.test('a replica with another key is refused', async (t) => {
  const { gossip, holder, local } = await pair(t, answering('{}'))
  const stranger = await startHopReplica(t, gossip, [new MemoryUpstream(silent)], {
    secrets: ['another-secret'],
  })
  const witness = new Witness()
  stranger.upstream.call(post(holder), witness)
  await within('it fails', witness.over)
  t.equal(witness.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(local.calls.length, 0)
})

t.test('a key that is being replaced is believed as long as it is listed', async (t) => {
  const gossip = new Gossip()
  const old = await startHopReplica(t, gossip, [new MemoryUpstream(answering('"old"'))], {
    secrets: ['new', 'old'],
  })
  const next = await startHopReplica(t, gossip, [new MemoryUpstream(answering('"next"'))], {
    secrets: ['old', 'new'],
  })
  for (const [from, to] of [
    [old, next],
    [next, old],
  ] as const) {
    const witness = new Witness()
    from.upstream.call(post(to), witness)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await within('it is answered', witness.over)
    t.equal(witness.status, 200)
  }
})

/** Sends a request as anybody can; answers its status and body. */
function send(
  port: number,
  {
    method = 'POST',
    path = '/hop',
    headers = {},
    body = new Uint8Array(),
  }: {
    method?: string
    path?: string
    headers?: Readonly<Record<string, string>>
    body?: Uint8Array
  },
): Promise<{ status: number; text: string; headers: NodeJS.Dict<string | string[]> }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ port, host: '127.0.0.1', method, path, headers }, (response) => {
      const parts: Buffer[] = []
      response.on('data', (chunk: Buffer) => parts.push(chunk))
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(parts).toString(),
          headers: response.headers,
        }),
      )
    })
    request.on('error', reject)
    request.end(body)
  })
}

t.test(
  'nobody gets in but by a fresh seal of a replica, for this one, with its body',
  async (t) => {
    const { holder, other, local } = await pair(t, answering('{}'))
    const request = {
      kind: 'upstream',
      serverId: SERVER,
      method: 'POST',
      headers: ['mcp-session-id', 'session-1'],
      isSafe: false,
      isFollowUp: false,
    } as const
    const body = encodeHopRequest(request, '{}')
    const from = mintSender()
    let sequence = 0
    const sealed = (changes: { sentAtMs?: number; to?: string; secret?: string } = {}): string =>
      new HopSigner([changes.secret ?? SECRET]).seal(changes.to ?? holder.replicaId, {
        worker: 0,
        from,
        sequence: ++sequence,
        sentAtMs: changes.sentAtMs ?? Date.now(),
        digest: digestOf(body),
      })
    const good = sealed()
    const first = await send(holder.port, { headers: { [SEAL_HEADER]: good }, body })
    t.equal(first.status, 200, 'a good one is served')
    t.equal(local.calls.length, 1)
    const changed = Buffer.from(body)
    changed[changed.byteLength - 1] = 0x20
    const attempts: readonly (readonly [string, Parameters<typeof send>[1]])[] = [
      ['the same once more', { headers: { [SEAL_HEADER]: good }, body }],
      ['none', { body }],
      ['an empty one', { headers: { [SEAL_HEADER]: '' }, body }],
      ['nonsense', { headers: { [SEAL_HEADER]: 'x'.repeat(5_000) }, body }],
      [
        'one for another replica',
        { headers: { [SEAL_HEADER]: sealed({ to: other.replicaId }) }, body },
      ],
      ['one with another key', { headers: { [SEAL_HEADER]: sealed({ secret: 'guessed' }) }, body }],
      [
        'one with another number under the same signature',
        { headers: { [SEAL_HEADER]: good.replace(`.${from}.1.`, `.${from}.9.`) }, body },
      ],
      [
        'one for another worker under the same signature',
        { headers: { [SEAL_HEADER]: good.replace(/^0\./, '1.') }, body },
      ],
      [
        'one of long ago',
        {
          headers: { [SEAL_HEADER]: sealed({ sentAtMs: Date.now() - MAX_CLOCK_SKEW_MS - 5_000 }) },
          body,
        },
      ],
      [
        'one of the future',
        {
          headers: { [SEAL_HEADER]: sealed({ sentAtMs: Date.now() + MAX_CLOCK_SKEW_MS + 5_000 }) },
          body,
        },
      ],
      ['another body', { headers: { [SEAL_HEADER]: sealed() }, body: changed }],
      ['no body', { headers: { [SEAL_HEADER]: sealed() } }],
      [
        'a body of unknown length',
        { headers: { [SEAL_HEADER]: sealed(), 'transfer-encoding': 'chunked' }, body },
      ],
      ['another path', { headers: { [SEAL_HEADER]: sealed() }, path: '/', body }],
      ['another method', { headers: { [SEAL_HEADER]: sealed() }, method: 'PUT', body }],
      ['a GET', { method: 'GET' }],
      ['the token of a client', { headers: { authorization: `Bearer ${SECRET}` }, body }],
      [
        'the token of a client in its header',
        { headers: { 'x-mcp-adapter-auth-token': SECRET }, body },
      ],
    ]
    for (const [what, attempt] of attempts) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const { status, text } = await send(holder.port, attempt)
      t.equal(status, 401, what)
      t.equal(
        text,
        '{"error":"ADAPTER_UNAUTHORIZED","detail":"only for replicas"}',
        `${what}: no more is said`,
      )
    }
    t.equal(local.calls.length, 1, 'nothing of it came through')
    const bad = Buffer.from([0, 0, 0, 2, 0x7b, 0x7d])
    const digest = digestOf(bad)
    const seal = new HopSigner([SECRET]).seal(holder.replicaId, {
      worker: 0,
      from,
      sequence: ++sequence,
      sentAtMs: Date.now(),
      digest,
    })
    const odd = await send(holder.port, { headers: { [SEAL_HEADER]: seal }, body: bad })
    t.equal(odd.status, 401, 'a replica that asks for something unknown is refused')
  },
)

t.test('a clock that is wrong is told of in the log', async (t) => {
  const gossip = new Gossip()
  const warnings: string[] = []
  const log = {
    warn: (_fields: object, text: string) => warnings.push(text),
  } as unknown as Log // all that is used
  const holder = await startHopReplica(t, gossip, [new MemoryUpstream(silent)], { log })
  for (let sequence = 1; sequence < 3; sequence++) {
    const seal = new HopSigner([SECRET]).seal(holder.replicaId, {
      worker: 0,
      from: mintSender(),
      sequence,
      sentAtMs: Date.now() - 3_600_000,
      digest: digestOf(''),
    })
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await send(holder.port, { headers: { [SEAL_HEADER]: seal } })
  }
  t.equal(warnings.length, 1, 'once')
  t.match(warnings[0], /its clock differs by 3600 s/)
})

t.test('numbers count once, in any order, and old senders are forgotten', async (t) => {
  let nowMs = 1_000_000_000
  const guard = new ReplayGuard(() => nowMs)
  const take = (from: string, sequence: number): string =>
    guard.take({ worker: 0, from, sequence, sentAtMs: nowMs, digest: '' })
  t.equal(take('a', 5), 'fresh')
  t.equal(take('a', 3), 'fresh', 'one that was overtaken')
  t.equal(take('a', 5), 'seen')
  t.equal(take('a', 3), 'seen')
  t.equal(take('b', 5), 'fresh', 'of somebody else')
  t.equal(take('a', 5 + 65_536), 'fresh')
  t.equal(take('a', 5), 'seen', 'out of the window')
  t.equal(take('a', 6), 'fresh', 'the oldest of the window')
  t.equal(take('a', 1_000_000), 'fresh')
  t.equal(take('a', 999_999), 'fresh')
  t.equal(take('a', 1_000_000), 'seen')
  nowMs += 3 * MAX_CLOCK_SKEW_MS
  t.equal(take('c', 1), 'fresh')
  t.equal(guard.size, 1, 'nothing that they had signed is fresh any more')
})
