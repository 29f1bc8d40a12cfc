// TLS towards upstreams and HTTP proxies on the way to them, over real sockets.

import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import type { TlsOptions, TLSSocket } from 'node:tls'

import t, { type Test } from 'tap'

import { ClientTls } from '../../src/worker/upstream/http1/client-tls.ts'
import { proxyOf } from '../../src/worker/upstream/http1/proxy.ts'
import {
  AUTHORITY,
  CLIENT_CERTIFICATE,
  CLIENT_KEY,
  KEY_PASSPHRASE,
  LOCKED_CLIENT_KEY,
  OTHER_AUTHORITY,
  SERVER_CERTIFICATE,
  SERVER_KEY,
} from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { startForwardProxy } from '../support/forward-proxy.ts'
import type { ForwardProxy } from '../support/forward-proxy.ts'
import { answerOf, ask, begin, clientOf, startRawServer } from './upstream-fixture.ts'
import type { RawServer } from './upstream-fixture.ts'

const directory = await mkdtemp(join(tmpdir(), 'adapter-reach-'))
t.teardown(() => rm(directory, { recursive: true, force: true }))

const FILES = {
  ca: AUTHORITY,
  other: OTHER_AUTHORITY,
  cert: CLIENT_CERTIFICATE,
  key: CLIENT_KEY,
  locked: LOCKED_CLIENT_KEY,
  text: 'no PEM',
} as const
const pathOf = (name: string): string => join(directory, `${name}.pem`)
await Promise.all(Object.entries(FILES).map(([name, content]) => writeFile(pathOf(name), content)))

const NO_TLS = {
  caFile: null,
  certFile: null,
  keyFile: null,
  keyPassphrase: null,
  serverName: null,
}
type Section = typeof NO_TLS | { readonly [Key in keyof typeof NO_TLS]: string | null }

function tlsOf(
  section: Partial<Section>,
  onUnusable: (error: unknown) => void = () => {},
): ClientTls {
  return new ClientTls({ ...NO_TLS, ...section }, onUnusable, 0)
}

/** A server with TLS that answers with the body it got; tells the names that clients asked for. */
async function startTls(
  t: Test,
  options: TlsOptions = {},
): Promise<{ server: RawServer; sockets: TLSSocket[]; url: URL }> {
  const tls = createTlsServer({ key: SERVER_KEY, cert: SERVER_CERTIFICATE, ...options })
  const sockets: TLSSocket[] = []
  tls.on('tlsClientError', () => {})
  tls.on('secureConnection', (socket) => sockets.push(socket))
  const server = await startRawServer(
    (socket, { body }) => socket.write(answerOf(body.toString())),
    tls,
    'secureConnection',
  )
  t.teardown(() => server.stop())
  return { server, sockets, url: new URL(`https://localhost:${server.port}/mcp`) }
}

async function startProxy(t: Test, options: { tls?: boolean } = {}): Promise<ForwardProxy> {
  const proxy = await startForwardProxy(options)
  t.teardown(() => proxy.stop())
  return proxy
}

function client(t: Test, options: Parameters<typeof clientOf>[1]): ReturnType<typeof clientOf> {
  const made = clientOf(0, options)
  t.teardown(() => made.close())
  return made
}

t.test('the authorities of ca_file are trusted and no others', async (t) => {
  const { server, url } = await startTls(t)
  const trusting = client(t, { url, tls: tlsOf({ caFile: pathOf('ca') }) })
  t.equal((await ask(trusting)).body.toString(), 'hello')

  const wary = client(t, { url, tls: tlsOf({ caFile: pathOf('other') }) })
  const refused = await ask(wary)
  t.equal(refused.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.match(refused.errors[0]?.message, /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED/)
  t.equal(server.requests.length, 1, 'nothing was sent to a server that is not trusted')
})

t.test('a certificate must have the name, which server_name may give', async (t) => {
  const { server, sockets, url } = await startTls(t)
  const caFile = pathOf('ca')
  const wrong = await ask(client(t, { url, tls: tlsOf({ caFile, serverName: 'elsewhere.test' }) }))
  t.equal(wrong.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.match(wrong.errors[0]?.message, /ERR_TLS_CERT_ALTNAME_INVALID/)
  t.equal(server.requests.length, 0)

  const named = client(t, { url, tls: tlsOf({ caFile, serverName: 'upstream.test' }) })
  t.equal((await ask(named)).body.toString(), 'hello')
  t.equal(sockets.at(-1)?.servername, 'upstream.test')

  const unnamed = client(t, {
    url: new URL(`https://127.0.0.1:${server.port}/`),
    tls: tlsOf({ caFile }),
  })
  t.equal((await ask(unnamed)).body.toString(), 'hello', 'an address in the certificate will do')
})

t.test('an upstream that asks for a certificate gets it, and refuses who has none', async (t) => {
  const { server, sockets, url } = await startTls(t, { ca: AUTHORITY, requestCert: true })
  const caFile = pathOf('ca')
  const known = client(t, {
    url,
    tls: tlsOf({ caFile, certFile: pathOf('cert'), keyFile: pathOf('key') }),
  })
  t.equal((await ask(known)).body.toString(), 'hello')
  t.equal(sockets.at(-1)?.getPeerCertificate().subject.CN, 'client')
  const locked = client(t, {
    url,
    tls: tlsOf({
      caFile,
      certFile: pathOf('cert'),
      keyFile: pathOf('locked'),
      keyPassphrase: KEY_PASSPHRASE,
    }),
  })
  t.equal((await ask(locked)).body.toString(), 'hello', 'with a key that is locked, too')

  const before = server.requests.length
  const unknown = await ask(client(t, { url, tls: tlsOf({ caFile }) }))
  t.equal(unknown.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
  t.equal(server.requests.length, before)
})

t.test('a file that can not be used is named with its field when it is read', async (t) => {
  const table = [
    [{ caFile: pathOf('none') }, /none\.pem: upstream\.tls\.ca_file can't be used \(ENOENT\)/],
    [{ caFile: pathOf('text') }, /upstream\.tls\.ca_file is no PEM file/],
    [{ certFile: pathOf('key'), keyFile: pathOf('key') }, /upstream\.tls\.cert_file can't be used/],
    [
      { certFile: pathOf('cert'), keyFile: pathOf('cert') },
      /upstream\.tls\.key_file can't be used/,
    ],
    [
      { certFile: pathOf('cert'), keyFile: pathOf('locked'), keyPassphrase: 'wrong' },
      /upstream\.tls\.key_file can't be used/,
    ],
  ] as const
  for (const [section, message] of table) t.throws(() => tlsOf(section), { message })
})

t.test(
  'renewed files count for new connections; unusable ones do not, and are told of',
  async (t) => {
    const { url, server } = await startTls(t)
    const caFile = pathOf('renewed')
    const write = async (text: string, at: number): Promise<void> => {
      await writeFile(caFile, text)
      // Times of files are coarse on some file systems.
      await utimes(caFile, at, at)
    }
    await write(OTHER_AUTHORITY, 1)
    const told: unknown[] = []
    const tls = tlsOf({ caFile }, (error) => told.push(error))
    const one = client(t, { url, tls })
    t.equal((await ask(one)).code, 'ADAPTER_UPSTREAM_UNREACHABLE')
    await write(AUTHORITY, 2)
    t.equal((await ask(one)).body.toString(), 'hello')
    for (const socket of server.sockets) socket.destroy()
    await eventually('the connection is gone', () => one.size.connections === 0)
    await write('rubbish', 3)
    t.equal((await ask(one)).body.toString(), 'hello', 'what was read before is kept')
    t.match(told, [{ message: /upstream\.tls\.ca_file is no PEM file/ }])
    for (const socket of server.sockets) socket.destroy()
    await eventually('the connection is gone', () => one.size.connections === 0)
    await write(OTHER_AUTHORITY, 4)
    const refused = await ask(one)
    t.equal(refused.code, 'ADAPTER_UPSTREAM_UNREACHABLE', 'an earlier TLS session opens no door')
  },
)

for (const isTls of [false, true]) {
  const kind = isTls ? 'https://' : 'http://'
  const proxyUrl = ({ port }: ForwardProxy, user = ''): URL =>
    new URL(`${kind}${user}localhost:${port}`)

  t.test(`an upstream with TLS is reached through a tunnel of an ${kind} proxy`, async (t) => {
    const { server, sockets, url } = await startTls(t)
    const proxy = await startProxy(t, { tls: isTls })
    const through = client(t, {
      url,
      tls: tlsOf({ caFile: pathOf('ca') }),
      proxy: proxyOf(proxyUrl(proxy)),
    })
    const large = 'x'.repeat(3_000_000)
    t.equal((await ask(through)).body.toString(), 'hello')
    t.equal((await ask(through, { body: Buffer.from(large) })).body.toString(), large)
    t.same(proxy.seen, [`CONNECT localhost:${server.port}`], 'one tunnel for both')
    t.equal(proxy.last['proxy-authorization'], undefined)
    t.equal(sockets.at(-1)?.servername, 'localhost')
    for (const socket of server.sockets) socket.destroy()
    await eventually('the end is noticed', () => through.size.connections === 0)
    t.equal((await ask(through)).body.toString(), 'hello')
    const wary = client(t, {
      url,
      tls: tlsOf({ caFile: pathOf('ca'), serverName: 'elsewhere.test' }),
      proxy: proxyOf(proxyUrl(proxy)),
    })
    const refused = await ask(wary)
    t.match(refused.errors[0]?.message, /ALTNAME_INVALID/, 'a tunnel makes nobody trusted')
    await eventually('its connection is closed', () => proxy.open() === 1)
  })

  t.test(`a plain upstream is asked for by whole URLs through an ${kind} proxy`, async (t) => {
    const server = await startRawServer((socket, { body }) =>
      socket.write(answerOf(body.toString())),
    )
    t.teardown(() => server.stop())
    const proxy = await startProxy(t, { tls: isTls })
    proxy.credentials = `Basic ${Buffer.from('ann:p@ss').toString('base64')}`
    const url = new URL(`http://localhost:${server.port}/mcp?a=b`)
    const tls = tlsOf({ caFile: pathOf('ca') })
    const through = client(t, { url, tls, proxy: proxyOf(proxyUrl(proxy, 'ann:p%40ss@')) })
    t.equal((await ask(through)).body.toString(), 'hello')
    t.same(proxy.seen, [`POST http://localhost:${server.port}/mcp?a=b`])
    t.match(
      server.requests[0]?.head,
      new RegExp(`^POST /mcp\\?a=b [^]*host: localhost:${server.port}`, 'i'),
    )
    t.notMatch(server.requests[0]?.head, /proxy-authorization/i)

    const nobody = client(t, { url, tls, proxy: proxyOf(proxyUrl(proxy)) })
    const refused = await ask(nobody)
    t.equal(refused.code, 'ADAPTER_UPSTREAM_UNREACHABLE')
    t.match(refused.errors[0]?.message, /the proxy does not lead to the upstream server \(.*407\)/)
    t.equal(refused.heads, 0, 'a client is not asked for what the proxy wants')
    t.equal(nobody.size.connections, 0)
  })
}

t.test(
  'a proxy that refuses, hangs, babbles or talks too soon is an error that says so',
  async (t) => {
    const { server, url } = await startTls(t)
    const proxy = await startProxy(t)
    const tls = tlsOf({ caFile: pathOf('ca') })
    const through = client(t, {
      url,
      tls,
      connectTimeoutMs: 300,
      proxy: proxyOf(new URL(`http://ann:secret@localhost:${proxy.port}`)),
    })
    proxy.credentials = 'Basic other'
    const asked = await ask(through)
    t.match(asked.errors[0]?.message, /\(it asks for other credentials .*: 407\)$/)
    t.notMatch(asked.errors[0]?.message, /secret/)
    proxy.credentials = undefined
    const table = [
      [502, 'ADAPTER_UPSTREAM_UNREACHABLE', /\(it answered 502\)$/],
      ['babble', 'ADAPTER_UPSTREAM_UNREACHABLE', /\(it speaks no HTTP\)$/],
      ['talk', 'ADAPTER_UPSTREAM_UNREACHABLE', /\(it sent data of its own\)$/],
      ['hang', 'ADAPTER_UPSTREAM_TIMEOUT', /did not accept a connection in time/],
    ] as const
    for (const [manner, code, message] of table) {
      proxy.manner = manner
      const answer = await ask(through)
      t.equal(answer.code, code, String(manner))
      t.match(answer.errors[0]?.message, message)
    }
    t.equal(server.requests.length, 0)
    t.same(through.size, { connections: 0, idle: 0, waiting: 0 })
    proxy.manner = 'hang'
    const given = begin(through)
    await eventually('the proxy is asked', () => proxy.open() > 0)
    given.call.abort()
    await eventually('nothing is left open', () => proxy.open() === 0)
    t.equal(given.witness.errors.length, 0)

    const gone = await startForwardProxy()
    await gone.stop()
    const lost = client(t, { url, tls, proxy: proxyOf(new URL(`http://localhost:${gone.port}`)) })
    const refused = await ask(lost)
    t.match(
      refused.errors[0]?.message,
      /the proxy does not lead to the upstream server \(ECONNREFUSED\)/,
    )
  },
)
