/** Where a replica listens for others, what it tells them, and which keys it shares with them. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import {
  advertisedUrl,
  hopListenAddress,
  isOpenToOthers,
  needsHop,
} from '../../src/primary/hop-address.ts'
import { hopKeys, signingKeys } from '../../src/primary/signing-keys.ts'
import type { Config } from '../../src/shared/config/config.ts'
import { load } from '../shared/config-loading.ts'

const REDIS = 'state_persistence: {type: redis, redis: {host: r}}'

function config(core: string, sections = '', transport = 'sse'): Config {
  return load(
    `core: {${core}}\n${sections}\nservers: [{id: a, mount_path: /a, upstream: {transport: ${transport}, url: "http://u"}}]`,
  )
}

const address = (family: 'IPv4' | 'IPv6', text: string, internal = false) => ({
  address: text,
  netmask: '',
  mac: '',
  cidr: null,
  internal,
  ...(family === 'IPv4' ? { family } : { family, scopeid: 0 }),
})

t.test(
  'nothing listens where nothing is bound to a connection, or nobody else is there',
  async (t) => {
    t.equal(needsHop(config('', REDIS), 1), true)
    t.equal(needsHop(config('', REDIS, 'streamable_http'), 1), true, 'for legacy clients')
    const none = 'legacy_sse: {enabled: false}'
    t.equal(needsHop(config(none, REDIS, 'streamable_http'), 4), false)
    t.equal(needsHop(config('', '', 'streamable_http'), 4), false)
    t.equal(needsHop(config(''), 2), true, 'the workers of one replica')
    t.equal(needsHop(config(''), 1), false)
  },
)

t.test(
  'a replica listens where it does for clients, and one that is alone on the loopback only',
  async (t) => {
    t.same(hopListenAddress(config('host: 10.0.0.5', REDIS)), { host: '10.0.0.5', port: 0 })
    const own = 'host: 10.0.0.5, replica_hop: {host: 10.9.0.5, port: 8933}'
    t.same(hopListenAddress(config(own, REDIS)), { host: '10.9.0.5', port: 8933 })
    t.same(hopListenAddress(config(own)), { host: '127.0.0.1', port: 0 })
  },
)

t.test('others are told an address that means something to them', async (t) => {
  const any = config('', REDIS)
  t.equal(advertisedUrl(any, '10.0.0.5', 8933), 'http://10.0.0.5:8933')
  t.equal(advertisedUrl(any, 'fd00::5', 8933), 'http://[fd00::5]:8933')
  const interfaces = {
    lo: [address('IPv4', '127.0.0.1', true)],
    eth0: [address('IPv6', 'fe80::1'), address('IPv6', 'fd00::7'), address('IPv4', '10.1.2.3')],
  }
  t.equal(advertisedUrl(any, '0.0.0.0', 1, interfaces), 'http://10.1.2.3:1')
  t.equal(advertisedUrl(any, '::', 1, { eth0: interfaces.eth0.slice(0, 2) }), 'http://[fd00::7]:1')
  t.equal(advertisedUrl(any, '0.0.0.0', 1, { lo: interfaces.lo }), 'http://127.0.0.1:1')
  const told = 'replica_hop: {advertised_url: "https://hop.example:9/"}'
  t.equal(advertisedUrl(config(told, REDIS), '0.0.0.0', 1), 'https://hop.example:9')
  t.equal(advertisedUrl(config(told), '127.0.0.1', 1), 'http://127.0.0.1:1', 'alone')
})

t.test('what is neither encrypted nor on this machine can be read by others', async (t) => {
  t.equal(isOpenToOthers('http://10.0.0.5:1'), true)
  t.equal(isOpenToOthers('https://10.0.0.5:1'), false)
  t.equal(isOpenToOthers('http://127.0.0.1:1'), false)
  t.equal(isOpenToOthers('http://[::1]:1'), false)
})

t.test('the token that clients have is no key of replicas', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'adapter-test-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  const storage = `storage: {root: "${root}"}`
  const token = config('auth: {enabled: true, token: everybody-has-it}', storage)
  t.same(await signingKeys(token), ['everybody-has-it'])
  const keys = await hopKeys(token)
  t.match(keys, [/^[0-9a-f]{64}$/])
  t.same(await hopKeys(config('', storage)), keys, 'all that share the root have it')
  const ring = config('auth: {enabled: true, token: x, signing_secret: [new, old]}', storage)
  t.same(await hopKeys(ring), ['new', 'old'])
})
