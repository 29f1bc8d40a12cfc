/** `state_persistence.redis`: the three ways to say where Redis is, and how the connection is encrypted. */

import t from 'tap'

import { redisConnectionOptions } from '../../src/shared/state/redis/connection-options.ts'
import { load, problems, report, SERVERS } from './config-loading.ts'

function withRedis(fields: string): string {
  return `state_persistence: {type: redis, redis: {${fields}}}\n${SERVERS}`
}

function connection(fields: string): ReturnType<typeof redisConnectionOptions> {
  return redisConnectionOptions(load(withRedis(fields)).statePersistence.redis)
}

t.test('every way to say where Redis is', async (t) => {
  t.match(connection('host: r, port: 7000, db: 3, username: u, password: p'), {
    target: { kind: 'single', node: { host: 'r', port: 7000 } },
    db: 3,
    username: 'u',
    password: 'p',
    tls: null,
    commandTimeoutMs: 2_000,
    connectTimeoutMs: 2_000,
  })
  t.match(
    connection(
      'sentinel: {master_name: m, nodes: ["s1:26379", "[::1]:1"], username: su, password: sp}',
    ),
    {
      target: {
        kind: 'sentinel',
        masterName: 'm',
        nodes: [
          { host: 's1', port: 26_379 },
          { host: '::1', port: 1 },
        ],
        username: 'su',
        password: 'sp',
      },
    },
  )
  t.match(connection('cluster: {nodes: [" c1:7000 ", "c2:7001"]}'), {
    target: {
      kind: 'cluster',
      nodes: [
        { host: 'c1', port: 7000 },
        { host: 'c2', port: 7001 },
      ],
    },
  })
})

t.test('every way to say how the connection is encrypted', async (t) => {
  const plain = { ca: null, cert: null, key: null, serverName: null }
  t.strictSame(connection('host: r, tls: true').tls, { ...plain, verify: true })
  t.strictSame(connection('host: r, tls_insecure: true').tls, { ...plain, verify: false })
  t.strictSame(connection('host: r, tls: "no"').tls, null)
  t.strictSame(connection('host: r, tls: {server_name: redis.internal}').tls, {
    ...plain,
    serverName: 'redis.internal',
    verify: true,
  })
  t.strictSame(connection('host: r, tls: {}').tls, { ...plain, verify: true })
})

t.test('what does not go together, or is incomplete, refuses the start', async (t) => {
  const cases: readonly (readonly [fields: string, path: string, message: RegExp])[] = [
    ['port: 1', 'host', /must be set/],
    ['sentinel: {nodes: ["s:1"]}', 'sentinel.master_name', /must be set.*sentinel monitor/],
    ['sentinel: {master_name: m}', 'sentinel.nodes', /at least one Sentinel/],
    ['host: r, sentinel: {master_name: m, nodes: ["s:1"]}', 'host', /redis\.sentinel says where/],
    ['host: r, cluster: {nodes: ["c:1"]}', 'host', /redis\.cluster says where/],
    ['db: 1, cluster: {nodes: ["c:1"]}', 'db', /must be 0 with redis\.cluster/],
    [
      'sentinel: {master_name: m, nodes: ["s:1"]}, cluster: {nodes: ["c:1"]}',
      'cluster.nodes',
      /excludes redis\.sentinel/,
    ],
    ['host: r, tls: {cert_file: /c.pem}', 'tls.key_file', /a certificate needs its key/],
    ['host: r, tls: {key_file: /k.pem}', 'tls.cert_file', /a certificate needs its key/],
    ['host: r, tls: {ca_file: /ca.pem}, tls_insecure: true', 'tls_insecure', /remove one/],
    ['host: r, cluster: {nodes: [c]}', 'cluster.nodes[0]', /must be host:port/],
    ['host: r, cluster: {nodes: ["c:70000"]}', 'cluster.nodes[0]', /port from 1 to 65535/],
    ['host: r, cluster: {nodes: ["redis://c:1"]}', 'cluster.nodes[0]', /must be host:port/],
    ['host: r, tls: maybe', 'tls', /must be true, false or a section .*; found maybe/],
    ['host: r, tls: {ca_file: ""}', 'tls.ca_file', /must not be blank/],
  ]
  for (const [fields, path, message] of cases) {
    const found = problems(withRedis(fields))
    t.match(found, [{ path: `state_persistence.redis.${path}`, message }], fields)
    t.equal(found.length, 1, fields)
  }
  t.match(report(withRedis('host: r, tls: {ca_fil: /ca.pem}')), [
    /redis\.tls\.ca_fil is not a known field; did you mean ca_file\?/,
  ])
  const unused = `state_persistence: {redis: {sentinel: {nodes: ["s:1"]}}}\n${SERVERS}`
  t.same(problems(unused), [], 'nothing is asked of what is not used')
})
