/** Mistakes in a configuration: all are found, and each is reported with its place and remedy. */

import { readFileSync } from 'node:fs'

import * as fc from 'fast-check'
import t from 'tap'
import { stringify } from 'yaml'

import { nearest } from '../../src/shared/config/nearest.ts'
import { ConfigError } from '../../src/shared/config/problems.ts'
import { EXAMPLE, EXAMPLE_ENV, load, problems, report, SERVERS } from './config-loading.ts'

/** A file with one server, whose fields are given. */
function server(fields: string): string {
  return `servers: [{${fields}}]`
}

function adapters(list: string): string {
  return server(`id: a, mount_path: /a, upstream: {url: "http://u"}, adapters: [${list}]`)
}

function mount(path: string): string {
  return server(`id: a, mount_path: ${path}, upstream: {url: "http://u"}`)
}

t.test(
  'mistakes are reported together, in the order of the file, with place and remedy',
  async (t) => {
    const text = `core:
  port: 89320
  log_levle: info
  tool_description_policy: {mod: truncate}
  workers: "\${W:-abc}"
servers:
  - id: a/b
    mount_path: /mcp/a
    upstream: {}
    adapters:
      - type: upload_consummer
sessions:
`
    t.same(report(text), [
      '2:9 core.port must be at most 65535; found 89320',
      '3:3 core.log_levle is not a known field; did you mean log_level?',
      '4:29 core.tool_description_policy.mod is not a known field; did you mean mode?',
      '5:12 core.workers must be a whole number, 1 or more; found "${W:-abc}"',
      '7:9 servers[0].id must be 1 to 64 letters, digits or . _ - (it stands in URLs and file paths), and not . or ..; found a/b',
      '11:15 servers[0].adapters[0].type must be one of upload_consumer, artifact_producer (did you mean upload_consumer?); found upload_consummer',
      '12:1 sessions is a section without content; give it fields or remove the line',
    ])
    const error = t.throws(() => load('core: {port: 0}\n' + SERVERS), ConfigError)
    t.match(error, {
      message:
        /^1 problem in the configuration\n {2}config\.yaml:1:14: core\.port must be at least 1; found 0$/,
    })
  },
)

t.test(
  'unknown fields are refused at every level and the nearest known one is named',
  async (t) => {
    const cases: [text: string, path: string, message: RegExp][] = [
      [`corr: {}\n${SERVERS}`, 'corr', /did you mean core\?/],
      [`core: {auth: {tokn: x}}\n${SERVERS}`, 'core.auth.tokn', /did you mean token\?/],
      [
        `state_persistence: {disk: {wal: {enable: true}}}\n${SERVERS}`,
        'state_persistence.disk.wal.enable',
        /did you mean enabled\?/,
      ],
      [`${SERVERS}    mountpath: /x\n`, 'servers[0].mountpath', /did you mean mount_path\?/],
      [
        `${SERVERS}    tool_defaults: {allow_raw_ouptut: true}\n`,
        'servers[0].tool_defaults.allow_raw_ouptut',
        /did you mean allow_raw_output\?/,
      ],
      [
        `${SERVERS}    adapters: [{type: artifact_producer, tools: [a], file_path_argument: x}]\n`,
        'servers[0].adapters[0].file_path_argument',
        /known here: allow_raw_output, expose_as_resource/,
      ],
      [
        `uploads: {zzzzzzzz: 1}\n${SERVERS}`,
        'uploads.zzzzzzzz',
        /known here: enabled, max_file_bytes/,
      ],
    ]
    for (const [text, path, message] of cases) t.match(problems(text), [{ path, message }], path)
    t.equal(nearest('Log_Levle', ['log_level', 'host']), 'log_level')
    t.equal(nearest('x', ['db']), undefined)
    t.equal(nearest('file_path', ['file_path_argument', 'tools']), 'file_path_argument', 'a part')
    t.equal(nearest('http', ['streamable_http', 'sse']), 'streamable_http')
    t.equal(nearest('headers', ['client_headers', 'static_headers']), undefined, 'either of two')
    t.equal(nearest('max', ['max_size']), undefined, 'too little to tell')
  },
)

t.test('values of the wrong kind are refused with the kind that is right', async (t) => {
  const cases: [yaml: string, path: string, message: RegExp][] = [
    ['core: []', 'core', /must be a section/],
    ['core:', 'core', /section without content/],
    ['core: {auth: null}', 'core.auth', /section without content/],
    ['core: {auth: {token: 12345}}', 'core.auth.token', /must be text \(put numbers.*quotes\)$/],
    ['core: {host: 5}', 'core.host', /must be text.*found 5/],
    ['core: {host: " "}', 'core.host', /must not be blank/],
    ['core: {port: 1.5}', 'core.port', /whole number, 1 to 65535/],
    ['core: {port: true}', 'core.port', /whole number/],
    ['core: {port: null}', 'core.port', /empty \(null\)/],
    ['core: {port: .nan}', 'core.port', /whole number/],
    ['core: {code_mode_enabled: 2}', 'core.code_mode_enabled', /must be true or false; found 2/],
    ['core: {code_mode_enabled: maybe}', 'core.code_mode_enabled', /must be true or false/],
    ['core: {allowed_hosts: a.example}', 'core.allowed_hosts', /must be a list/],
    ['core: {allowed_hosts: ["http://a"]}', 'core.allowed_hosts[0]', /host name/],
    ['core: {allowed_origins: ["https://a/b"]}', 'core.allowed_origins[0]', /origin/],
    ['core: {upload_path: /}', 'core.upload_path', /must not be blank or \//],
    ['core: {upload_path: "/a b"}', 'core.upload_path', /may use only/],
    ['core: {upload_path: /a/../b}', 'core.upload_path', /may use only/],
    [
      'core: {replica_hop: {advertised_url: "10.0.0.5:80"}}',
      'core.replica_hop.advertised_url',
      /http/,
    ],
    [
      'core: {replica_hop: {advertised_url: "http://a:1/hop"}}',
      'core.replica_hop.advertised_url',
      /nothing more/,
    ],
    [
      'core: {replica_hop: {advertised_url: "http://u:p@a:1"}}',
      'core.replica_hop.advertised_url',
      /nothing more/,
    ],
    ['core: {public_base_url: mcp.example.com}', 'core.public_base_url', /absolute http/],
    [
      'core: {public_base_url: "https://a/?b"}',
      'core.public_base_url',
      /without user, query or fragment/,
    ],
    ['core: {public_base_url: "https://a/#b"}', 'core.public_base_url', /fragment/],
    ['core: {public_base_url: "https://u:p@a/"}', 'core.public_base_url', /user/],
    ['core: {auth: {header_name: "a b"}}', 'core.auth.header_name', /HTTP header name/],
    ['core: {auth: {jwt: {jwks_uri: "https://u:p@a/k"}}}', 'core.auth.jwt.jwks_uri', /user/],
    ['core: {auth: {jwt: {issuer: "idp"}}}', 'core.auth.jwt.issuer', /http/],
    [
      'core: {auth: {jwt: {required_scopes: ["a b"]}}}',
      'core.auth.jwt.required_scopes[0]',
      /without blanks/,
    ],
    ['core: {auth: {tokens: [{name: "a b", token: x}]}}', 'core.auth.tokens[0].name', /letters/],
    ['core: {auth: {tokens: [{name: a, token: " "}]}}', 'core.auth.tokens[0].token', /blank/],
    ['core: {auth: {signing_secret: "  "}}', 'core.auth.signing_secret', /must not be blank/],
    ['core: {auth: {signing_secret: [a, " "]}}', 'core.auth.signing_secret[1]', /not be blank/],
    ['core: {auth: {signing_secret: []}}', 'core.auth.signing_secret', /at least 1 entry/],
    ['core: {auth: {signing_secret: 5}}', 'core.auth.signing_secret', /must be text .*or a list/],
    ['core: {cors: {allowed_origins: ["https://a/b"]}}', 'core.cors.allowed_origins[0]', /origin/],
    ['core: {cors: {allowed_methods: ["GET POST"]}}', 'core.cors.allowed_methods[0]', /name/],
    ['core: {cors: {exposed_headers: ["a,b"]}}', 'core.cors.exposed_headers[0]', /name/],
    ['core: {rate_limit: {requests_per_minute: 0}}', 'core.rate_limit.requests_per_minute', /1/],
    ['core: {tls: {cert_file: a.pem}}', 'core.tls.key_file', /needs its key/],
    ['core: {tls: {key_file: a.pem}}', 'core.tls.cert_file', /needs its key/],
    ['core: {tls: {passphrase: a}}', 'core.tls.passphrase', /not set/],
    ['core: {cors: {max_age_seconds: 86401}}', 'core.cors.max_age_seconds', /at most 86400/],
    [
      'core: {cors: {enabled: true, allow_credentials: true, allowed_origins: ["*"]}}',
      'core.cors.allowed_origins',
      /must name the origins/,
    ],
    ['core: {max_message_bytes: 0}', 'core.max_message_bytes', /at least 1/],
    ['storage: {max_size: 1.5Gi}', 'storage.max_size', /byte size/],
    ['storage: {max_size: -1}', 'storage.max_size', /byte size/],
    ['uploads: {max_file_bytes: null}', 'uploads.max_file_bytes', /null/],
    ['uploads: {uri_scheme: upload}', 'uploads.uri_scheme', /ends in :\/\//],
    [
      'sessions: {upstream_session_termination_retries: 6}',
      'sessions.upstream_session_termination_retries',
      /at most 5/,
    ],
    [
      'state_persistence: {type: sqlite}',
      'state_persistence.type',
      /one of memory, disk, redis; found sqlite/,
    ],
    ['telemetry: {headers: {"a b": c}}', 'telemetry.headers.a b', /HTTP header name/],
    ['telemetry: {headers: {a: "b\\nc"}}', 'telemetry.headers.a', /HTTP header value/],
    ['telemetry: {traces: {sample_ratio: 1.5}}', 'telemetry.traces.sample_ratio', /from 0 to 1/],
    ['telemetry: {traces: {sample_ratio: "half"}}', 'telemetry.traces.sample_ratio', /from 0 to 1/],
    ['telemetry: {traces: {enabled: true}}', 'telemetry.traces.enabled', /telemetry\.enabled/],
    ['telemetry: {enabled: true, endpoint: "ftp://c"}', 'telemetry.endpoint', /http/],
    [
      'telemetry: {enabled: true, transport: http, logs_endpoint: "nowhere:1"}',
      'telemetry.logs_endpoint',
      /http/,
    ],
    ['telemetry: {headers: {a: 5}}', 'telemetry.headers.a', /must be text/],
    [
      'telemetry: {enabled: true, endpoint: "http://user:100%@otel:4317"}',
      'telemetry.endpoint',
      /a % in its user or password that encodes nothing/,
    ],
    [
      'telemetry: {enabled: true, traces: {endpoint: "http://%zz@otel:4317"}}',
      'telemetry.traces.endpoint',
      /write %25 for a percent sign/,
    ],
    ['telemetry: {enabled: true, endpoint: "a b"}', 'telemetry.endpoint', /host:port/],
    [
      'telemetry: {enabled: true, transport: http, endpoint: "otel:4318"}',
      'telemetry.endpoint',
      /http:\/\//,
    ],
    ['telemetry: {prometheus: {host: 0.0.0.0}}', 'telemetry.prometheus.host', /port, which is not/],
    ['telemetry: {prometheus: {port: 8932}}', 'telemetry.prometheus.port', /core\.port/],
    [
      'telemetry: {prometheus: {enabled: true, path: /mcp/files}}',
      'telemetry.prometheus.path',
      /collides with servers/,
    ],
  ]
  for (const [yaml, path, message] of cases)
    t.match(problems(`${yaml}\n${SERVERS}`), [{ path, message }], yaml)
})

t.test('rules between fields refuse the start', async (t) => {
  const cases: [yaml: string, path: string, message: RegExp][] = [
    [
      `core: {auth: {enabled: true}}\n${SERVERS}`,
      'core.auth.token',
      /must be set while core.auth.enabled/,
    ],
    [`core: {auth: {enabled: true, token: " "}}\n${SERVERS}`, 'core.auth.token', /must be set/],
    [
      `core: {public_base_url: "https://a", auth: {jwt: {issuer: "https://i"}}}\n${SERVERS}`,
      'core.auth.jwt.jwks_uri',
      /must be set/,
    ],
    [
      `core: {auth: {jwt: {jwks_uri: "https://i/k"}}}\n${SERVERS}`,
      'core.auth.jwt.issuer',
      /must be set/,
    ],
    [
      `core: {auth: {jwt: {issuer: "https://i", jwks_uri: "https://i/k"}}}\n${SERVERS}`,
      'core.auth.jwt.audience',
      /public_base_url is not/,
    ],
    [
      `core: {auth: {token: same, tokens: [{name: other, token: same}]}}\n${SERVERS}`,
      'core.auth.tokens[0].token',
      /token of default too/,
    ],
    [`state_persistence: {type: redis}\n${SERVERS}`, 'state_persistence.redis.host', /must be set/],
    [
      `storage: {lock_mode: redis}\n${SERVERS}`,
      'storage.lock_mode',
      /it is disk.*use auto or file/,
    ],
    [
      `storage: {artifact_locator_policy: allow_configured_roots, artifact_locator_allowed_roots: [" "]}\n${SERVERS}`,
      'storage.artifact_locator_allowed_roots',
      /at least one directory/,
    ],
    [
      `state_persistence: {reconciliation: {legacy_server_id: old}}\n${SERVERS}`,
      'state_persistence.reconciliation.legacy_server_id',
      /id of a configured server: files/,
    ],
    [
      'servers: [{id: a, mount_path: /a, upstream: {url: "http://u"}}, {id: " a", mount_path: /b, upstream: {url: "http://u"}}]',
      'servers[1].id',
      /servers\[0\] has the id a too/,
    ],
    [
      'servers: [{id: a, mount_path: /a, upstream: {url: "http://u"}}, {id: b, mount_path: a/, upstream: {url: "http://u"}}]',
      'servers[1].mount_path',
      /collides with servers\[0\]\.mount_path \/a/,
    ],
    [
      'servers: [{id: a, mount_path: /a/b, upstream: {url: "http://u"}}, {id: b, mount_path: /a, upstream: {url: "http://u"}}]',
      'servers[1].mount_path',
      /collides/,
    ],
    // Where legacy clients of /a connect.
    [
      'servers: [{id: a, mount_path: /a, upstream: {url: "http://u"}}, {id: b, mount_path: /a/sse, upstream: {url: "http://u"}}]',
      'servers[1].mount_path',
      /collides with servers\[0\]\.mount_path \/a/,
    ],
    [mount('/upload'), 'servers[0].mount_path', /collides with core.upload_path/],
    [mount('/upload/x'), 'servers[0].mount_path', /collides with core.upload_path/],
    [`core: {upload_path: /up/files}\n${mount('/up')}`, 'servers[0].mount_path', /collides/],
    [
      `core: {upload_path: /metrics/x}\n${SERVERS}`,
      'core.upload_path',
      /collides with the adapter's own path \/metrics/,
    ],
    ...[
      '/healthz',
      '/livez',
      '/readyz',
      '/metrics',
      '/artifacts',
      '/artifacts/x',
      '/healthz/mcp',
    ].map((path): [string, string, RegExp] => [
      mount(path),
      'servers[0].mount_path',
      /adapter's own path/,
    ]),
    [
      adapters('{type: artifact_producer, tools: [t], output_locator: {mode: structured}}'),
      'servers[0].adapters[0].output_locator.output_path_key',
      /must be set/,
    ],
    [
      adapters(
        '{type: artifact_producer, tools: [t], output_locator: {mode: structured, output_path_key: " "}}',
      ),
      'servers[0].adapters[0].output_locator.output_path_key',
      /must be set/,
    ],
    [
      adapters(
        '{type: artifact_producer, tools: [t], allow_raw_output: true, include_raw_output: true}',
      ),
      'servers[0].adapters[0].include_raw_output',
      /older name/,
    ],
    [
      adapters('{type: upload_consumer, tools: [t], file_path_argument: p, uri_scheme: "up://"}'),
      'servers[0].adapters[0].uri_scheme',
      /uploads\.uri_scheme upload:\/\/.*leave this field out/,
    ],
    [
      adapters(
        '{type: upload_consumer, tools: [s, t], file_path_argument: p}, {type: upload_consumer, tools: [t], file_path_argument: q}',
      ),
      'servers[0].adapters[1].tools[0]',
      /already handled by adapters\[0\]/,
    ],
  ]
  for (const [yaml, path, message] of cases) t.match(problems(yaml), [{ path, message }], yaml)

  t.same(problems(mount('/healthzz')), [], 'only whole segments collide')
  t.same(
    problems(
      adapters(
        '{type: upload_consumer, tools: [t, t], file_path_argument: p}, {type: artifact_producer, tools: [t]}',
      ),
    ),
    [],
    'one adapter of each type may name a tool',
  )
  t.same(
    problems(
      adapters(
        '{type: artifact_producer, tools: [t], output_path_argument: f, output_locator: {mode: structured}}',
      ),
    ),
    [],
  )
  t.same(
    problems(
      `uploads: {uri_scheme: "Up://"}\n${adapters('{type: upload_consumer, tools: [t], file_path_argument: p, uri_scheme: " UP:// "}')}`,
    ),
    [],
  )
})

t.test('YAML mistakes are reported by place, never with the text of the file', async (t) => {
  t.same(report(`core: {port: 1}\ncore: {port: 2}\n${SERVERS}`), [
    '2:1  this key is given twice in the same section; keep one of them',
  ])
  t.match(report(`core:\n  auth: {token: hunter2\n${SERVERS}`).join('\n'), /is not valid YAML/)
  for (const token of ['!hunter2', '!a!hunter2', '|hunter2', '*hunter2', '"hunter2\\hunter2"']) {
    const said = report(`core:\n  auth:\n    token: ${token}\n${SERVERS}`)
    t.match(said[0], /^3:\d+ +(?:is not valid YAML|core.auth.token refers to)/, token)
    t.notMatch(said.join('\n'), /unter2/, 'the file is not quoted')
  }
  const lost = report(`core:\n  port: 1\n}  auth: {token: "hunter2"}\n${SERVERS}`)
  t.same(lost, ['3:1  is not valid YAML: Unexpected flow-map-end token in YAML stream'])
  t.notMatch(report(`core:\n  auth: {token: hunter2\n${SERVERS}`).join('\n'), /hunter2/)
  t.match(report(`${SERVERS}---\na: 1\n`), [
    '5:1  a second document begins here; the configuration is one YAML document',
  ])
  t.match(report(`core: !custom {}\n${SERVERS}`), [/^1:7 .*Unresolved tag/])
  t.match(report(`core:\n\tport: 1\n${SERVERS}`)[0], /a tab is used as indentation/)
  t.match(report(`core: *nowhere\n${SERVERS}`)[0], /1:7/)
  t.match(report('just text'), ['1:1  must be a section (keys with values); found just text'])
  t.match(report(''), [/servers is required/])
  t.match(report('# nothing\n'), [/servers is required/])
  t.match(report(`? [a]\n: 1\n${SERVERS}`), [/has a key that is not plain text/])
  t.match(report(`__proto__: {a: 1}\n${SERVERS}`), [/has a key that is not plain text/])
  t.match(report(`core: &a {auth: *a}\n${SERVERS}`), [/./], 'an alias of itself ends')
  const bomb = [
    'a: &a [x,x,x,x,x,x,x,x,x,x]',
    ...'bcdefgh'
      .split('')
      .map((name, i) => `${name}: &${name} [${Array(10).fill(`*${'abcdefg'[i]}`).join()}]`),
  ]
  t.match(report(bomb.join('\n'))[0], /aliases/, 'multiplying aliases end')
  t.match(report('['.repeat(20_000)), [/./], 'deep nesting ends')
})

t.test(
  'whatever the file contains, the answer is a configuration or a list of problems',
  async (t) => {
    const example = readFileSync(EXAMPLE, 'utf8')
    const keys = [
      ...new Set(example.match(/[a-z_]+(?=:)/g)),
      '<<',
      '__proto__',
      'constructor',
      'type',
    ]
    const leaf = fc.oneof(
      fc.constant(null),
      fc.boolean(),
      fc.double(),
      fc.string(),
      fc.constantFrom(
        '${A}',
        '${A:-x}',
        '10Mi',
        '/',
        'upload_consumer',
        'https://u',
        '\u0000',
        'toString',
      ),
    )
    const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 5, withCrossShrink: true },
        leaf,
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom(...keys), tie('tree'), { maxKeys: 5 }),
      ),
    }))
    const mutated = fc
      .array(
        fc.tuple(fc.nat(example.length), fc.nat(4), fc.string({ unit: 'grapheme', maxLength: 6 })),
        { minLength: 1, maxLength: 6 },
      )
      .map((edits) =>
        edits.reduce(
          (text, [at, cut, insert]) => text.slice(0, at) + insert + text.slice(at + cut),
          example,
        ),
      )
    const noise = fc.string({
      unit: fc.constantFrom(...Array.from('ab:-?&*!|>{}[],#\'"%@`<$~ \n\t\r0.')),
      maxLength: 60,
    })
    const text = fc.oneof(
      tree.map((node) => stringify(node) ?? ''),
      mutated,
      noise,
    )
    t.doesNotThrow(() =>
      fc.assert(
        fc.property(text, (yaml) =>
          problems(yaml, EXAMPLE_ENV).every(({ message }) => message !== ''),
        ),
        { numRuns: 600 },
      ),
    )
  },
)

t.test('headers that never pass can not be configured to', async (t) => {
  const upstream = (fields: string): string =>
    server(`id: a, mount_path: /a, upstream: {url: "http://u", ${fields}}`)
  for (const name of ['Connection', 'te', 'Cookie', 'X-Mcp-Adapter-Auth-Token', 'Mcp-Session-Id']) {
    t.match(
      problems(upstream(`client_headers: {passthrough: [X-Fine, ${name}]}`)),
      [{ path: 'servers[0].upstream.client_headers.passthrough[1]', message: /can not be/ }],
      name,
    )
  }
  t.match(
    problems(
      `core: {auth: {header_name: X-Key}}\n${upstream('client_headers: {passthrough: [x-key]}')}`,
    ),
    [{ message: /own token/ }],
  )
  t.match(problems(upstream('static_headers: {Transfer-Encoding: chunked}')), [
    { path: 'servers[0].upstream.static_headers.Transfer-Encoding', message: /can not be set/ },
  ])
})
