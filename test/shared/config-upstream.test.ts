/** `servers[].upstream`: how an upstream is reached. */

import t from 'tap'

import { maskSecrets, secretsOf } from '../../src/shared/config/secrets.ts'
import { load, problems } from './config-loading.ts'

function withUpstream(fields: string, url = 'https://u/mcp'): string {
  return `servers: [{id: a, mount_path: /a, upstream: {url: "${url}"${fields === '' ? '' : ','} ${fields}}}]\n`
}

t.test('TLS fields that do not go together are refused by name', async (t) => {
  const cases: readonly (readonly [fields: string, path: string, message: RegExp, url?: string])[] =
    [
      ['tls: {cert_file: /c.pem}', 'tls.key_file', /a certificate needs its key/],
      ['tls: {key_file: /k.pem}', 'tls.cert_file', /a certificate needs its key/],
      ['tls: {key_passphrase: p}', 'tls.key_passphrase', /is for key_file, which is not set/],
      ['tls: {ca_file: /ca.pem}, insecure_tls: true', 'insecure_tls', /remove one of the two/],
      ['tls: {server_name: n}', 'tls.server_name', /begins with http:/, 'http://u/mcp'],
      ['tls: {ca_file: ""}', 'tls.ca_file', /must not be blank/],
      ['proxy_url: "proxy:3128"', 'proxy_url', /must be http:\/\/ or https:\/\/ with a host/],
      ['proxy_url: "socks5://proxy:1080"', 'proxy_url', /must be http/],
      ['proxy_url: "http://u:5%@proxy:3128"', 'proxy_url', /a % in its user or password/],
      ['proxy_url: "http://proxy/path"', 'proxy_url', /no path/],
      ['proxy_url: "http://proxy/?a=b"', 'proxy_url', /no path/],
    ]
  for (const [fields, path, message, url] of cases) {
    const found = problems(withUpstream(fields, url))
    t.match(found, [{ path: `servers[0].upstream.${path}`, message }], fields)
    t.equal(found.length, 1, fields)
  }
})

t.test(
  'a proxy may be given for any upstream, and a private authority for the proxy',
  async (t) => {
    t.match(load(withUpstream('proxy_url: " http://p:3128 "')).servers[0]?.upstream, {
      proxyUrl: 'http://p:3128',
    })
    t.match(load(withUpstream('proxy_url: ""')).servers[0]?.upstream, { proxyUrl: null })
    const both = 'proxy_url: "https://p", tls: {ca_file: /ca.pem}'
    t.same(problems(withUpstream(both, 'http://u/mcp')), [])
    t.same(problems(withUpstream(`${both}, insecure_tls: true`)), [])
  },
)

t.test('passphrases and credentials of proxies are secret', async (t) => {
  const upstream = {
    tls: { key_passphrase: 'open-sesame' },
    proxy_url: 'http://ann:p%40ss@proxy:3128',
  }
  t.same(maskSecrets({ servers: [{ upstream }] }), {
    servers: [
      {
        upstream: {
          tls: { key_passphrase: '<redacted>' },
          proxy_url: 'http://<redacted>@proxy:3128',
        },
      },
    ],
  })
  const config = load(
    withUpstream(
      'proxy_url: "http://ann:p%40ss@proxy:3128", tls: {cert_file: /c, key_file: /k, key_passphrase: open-sesame}',
    ),
  )
  const { values } = secretsOf(config)
  for (const secret of ['open-sesame', 'p%40ss', 'p@ss']) t.ok(values.includes(secret), secret)
})
