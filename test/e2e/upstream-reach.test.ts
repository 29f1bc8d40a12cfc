// Upstreams that take more than an address to reach: TLS of one's own and proxies, as an operator configures them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import {
  AUTHORITY,
  CLIENT_CERTIFICATE,
  KEY_PASSPHRASE,
  LOCKED_CLIENT_KEY,
  OTHER_AUTHORITY,
  SERVER_CERTIFICATE,
  SERVER_KEY,
} from '../support/certificates.ts'
import { startForwardProxy } from '../support/forward-proxy.ts'
import { startReplica } from '../support/replica.ts'
import { initialize } from '../support/wire.ts'

t.setTimeout(120_000)

const directory = await mkdtemp(join(tmpdir(), 'adapter-reach-'))
const files = {
  ca: AUTHORITY,
  other: OTHER_AUTHORITY,
  cert: CLIENT_CERTIFICATE,
  key: LOCKED_CLIENT_KEY,
} as const
const pathOf = (name: keyof typeof files): string => join(directory, `${name}.pem`)
await Promise.all(
  (['ca', 'other', 'cert', 'key'] as const).map((name) => writeFile(pathOf(name), files[name])),
)

const INITIALIZED = JSON.stringify({
  jsonrpc: '2.0',
  id: 'init',
  result: {
    protocolVersion: '2025-06-18',
    capabilities: { tools: {} },
    serverInfo: { name: 'guarded', version: '1' },
  },
})
/** Takes nobody without a certificate of the tests' authority. */
const upstream = createTlsServer(
  { key: SERVER_KEY, cert: SERVER_CERTIFICATE, ca: AUTHORITY, requestCert: true },
  (request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'application/json' }).end(INITIALIZED)
  },
)
await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
// A listening TCP server has such an address.
const { port } = upstream.address() as AddressInfo
const proxy = await startForwardProxy()
proxy.credentials = `Basic ${Buffer.from('ann:wonderland-42').toString('base64')}`
t.teardown(async () => {
  upstream.closeAllConnections()
  upstream.close()
  await proxy.stop()
  await rm(directory, { recursive: true, force: true })
})

const url = `https://localhost:${port}/mcp`
const tls = {
  ca_file: pathOf('ca'),
  cert_file: pathOf('cert'),
  key_file: pathOf('key'),
  key_passphrase: KEY_PASSPHRASE,
}

t.test(
  'certificates and proxies of the configuration are used, and of none of them more is told than needed',
  async (t) => {
    const servers = {
      direct: { url, tls },
      proxied: { url, tls, proxy_url: `http://ann:wonderland-42@localhost:${proxy.port}` },
      stranger: { url, tls: { ca_file: tls.ca_file } },
      wary: { url, tls: { ...tls, ca_file: pathOf('other') } },
      insecure: { url, insecure_tls: true, tls: { ...tls, ca_file: undefined } },
      refused: { url, tls, proxy_url: `http://eve:looking-glass-7@localhost:${proxy.port}` },
    }
    const replica = await startReplica({
      config: {
        core: { workers: 1, log_level: 'debug', max_start_wait_seconds: 0 },
        servers: Object.entries(servers).map(([id, one]) => {
          // Pings, and looks at the start, would be counted by the proxy.
          return { id, mount_path: `/mcp/${id}`, upstream: one, upstream_ping: { enabled: false } }
        }),
      },
      // Were they read, everything would go astray.
      env: { HTTPS_PROXY: 'http://127.0.0.1:9', HTTP_PROXY: 'http://127.0.0.1:9' },
    })
    t.teardown(() => replica.stop())
    const outcomes: { [id: string]: number } = {}
    for (const id of Object.keys(servers)) {
      const answer = await initialize(`${replica.url}/mcp/${id}`)
      outcomes[id] = answer.status
      t.notMatch(answer.body, /looking-glass|wonderland|open-sesame/)
      if (id === 'refused') t.match(answer.json().error?.message, /the proxy .*407/)
    }
    t.same(outcomes, {
      direct: 200,
      proxied: 200,
      stranger: 502,
      wary: 502,
      insecure: 200,
      refused: 502,
    })
    t.same(proxy.seen, [`CONNECT localhost:${port}`, `CONNECT localhost:${port}`])
    t.match(replica.logs(), /insecure.*upstream\.insecure_tls is true: whoever is on the way/)
    t.notMatch(replica.logs(), /servers\[direct\]/)
  },
)

t.test('a file that can not be used ends the start and says which and why', async (t) => {
  const start = (section: object) =>
    startReplica({
      config: { servers: [{ id: 'a', mount_path: '/mcp/a', upstream: { url, tls: section } }] },
    })
  const table = [
    [{ ca_file: join(directory, 'none.pem') }, /ca_file can't be used \(ENOENT\)/],
    [{ ...tls, key_passphrase: 'another' }, /key_file can't be used/],
    [{ ...tls, cert_file: pathOf('other') }, /key_file can't be used/],
  ] as const
  for (const [section, message] of table) {
    await t.rejects(start(section), {
      message: new RegExp(`ended with 2[^]*servers\\[0\\]\\.upstream\\.tls\\.${message.source}`),
    })
  }
})
