/** Loading a configuration: what is accepted and what the program gets. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import type { Config } from '../../src/shared/config/config.ts'
import { resolveConfigPath } from '../../src/shared/config/config-path.ts'
import { interpolate } from '../../src/shared/config/interpolate.ts'
import { loadConfig } from '../../src/shared/config/load.ts'
import { ConfigError } from '../../src/shared/config/problems.ts'
import { EXAMPLE, EXAMPLE_ENV, load, problems, report, SERVERS } from './config-loading.ts'

type Equal<A, B> = [A, B] extends [B, A] ? (0 extends 1 & A ? false : true) : false

t.test('the full example of a distributed deployment loads as it is', async (t) => {
  const { config, path } = loadConfig({ path: EXAMPLE, env: EXAMPLE_ENV })
  t.equal(path, EXAMPLE)
  t.match(config, {
    core: {
      host: '0.0.0.0',
      logLevel: 'info',
      publicBaseUrl: 'https://mcp-adapter.example.com',
      allowArtifactsDownload: true,
      upstreamMetadataCacheTtlSeconds: 60,
      auth: {
        enabled: true,
        token: 'front-door',
        signingSecret: ['pen'],
        signedUploadTtlSeconds: 300,
      },
    },
    statePersistence: {
      type: 'redis',
      redis: { host: 'redis.internal', keyBase: 'remote-mcp-adapter' },
    },
    storage: { root: '/data/shared', lockMode: 'redis', maxSize: 50 * 1024 ** 3 },
    sessions: { maxActive: 500, idleTtlSeconds: 1800, maxTotalSessionSize: 1024 ** 3 },
    uploads: { maxFileBytes: 100 * 1024 ** 2, ttlSeconds: 300, requireSha256: true },
    artifacts: { ttlSeconds: 1800, maxPerSession: 100 },
    telemetry: {
      enabled: true,
      transport: 'http',
      endpoint: 'https://otel-collector.internal/v1/metrics',
    },
  })
  const [server] = config.servers
  t.match(server, {
    id: 'playwright',
    mountPath: '/mcp/playwright',
    toolCallTimeoutSeconds: 60,
    adapters: [
      {
        type: 'upload_consumer',
        tools: ['browser_file_upload'],
        filePathArgument: 'paths',
        uriScheme: 'upload://',
      },
      {
        type: 'artifact_producer',
        outputPathArgument: 'filename',
        outputLocator: { mode: 'regex' },
      },
    ],
  })
  t.throws(() => loadConfig({ path: EXAMPLE, env: {} }), /environment variable MCP_ADAPTER_TOKEN/)
})

t.test('a configuration is frozen to its leaves and precisely typed', async (t) => {
  const port: Equal<Config['core']['port'], number> = true
  const url: Equal<Config['core']['publicBaseUrl'], string | null> = true
  const level: Equal<Config['storage']['lockMode'], 'none' | 'process' | 'file' | 'redis'> = true
  t.ok(port && url && level)
  const config = load(`${SERVERS}      \n`)
  t.throws(() => Object.assign(config.core.auth, { token: 'x' }), TypeError)
  t.throws(
    () => Object.assign(config.servers[0]?.upstream.staticHeaders ?? {}, { a: 'x' }),
    TypeError,
  )
  t.throws(() => Object.assign(config.core.allowedHosts, { 0: 'x' }), TypeError)
})

t.test('anchors, aliases and merge keys work as in YAML', async (t) => {
  const config = load(`servers:
  - &first
    id: a
    mount_path: /a
    upstream: &up {url: "http://u/mcp", static_headers: {X-Key: k}}
  - <<: *first
    id: b
    mount_path: /b
  - id: c
    mount_path: /c
    upstream: {<<: [{url: "http://w/mcp"}, *up]}
`)
  t.match(config.servers, [
    { id: 'a' },
    { id: 'b', mountPath: '/b', upstream: { url: 'http://u/mcp' } },
    { id: 'c', upstream: { url: 'http://w/mcp', staticHeaders: { 'X-Key': 'k' } } },
  ])
  t.match(problems('servers: [{<<: 5, id: a}]'), [{ message: /must refer to a section/ }])
})

t.test('environment variables fill values and only values', async (t) => {
  const env = { A: 'alpha', EMPTY: '', PORT: '8080', YES: 'yes', NESTED: '${A}' }
  const cases: [text: string, filled: string, missing: string[]][] = [
    ['plain', 'plain', []],
    ['${A}', 'alpha', []],
    ['x${A}-${A}y', 'xalpha-alphay', []],
    ['${UNSET:-b}', 'b', []],
    ['${EMPTY:-b}', 'b', []],
    ['${UNSET:-}', '', []],
    ['${A:-b}', 'alpha', []],
    ['${UNSET:-a:-b}', 'a:-b', []],
    ['${UNSET}', '', ['UNSET']],
    ['${EMPTY}${UNSET}', '', ['EMPTY', 'UNSET']],
    ['${NESTED}', '${A}', []],
    ['$A ${1A} ${A-b} ${} $${A}', '$A ${1A} ${A-b} ${} $alpha', []],
    ['${toString}', '', ['toString']],
    ['^a{2}$', '^a{2}$', []],
  ]
  for (const [text, filled, missing] of cases)
    t.same(interpolate(text, env), { text: filled, missing }, text)

  const config = load(
    `core: {port: "\${PORT}", code_mode_enabled: "\${YES}", public_base_url: "\${UNSET:-}", allowed_hosts: ["\${A}.example"]}
servers:
  - {id: "\${A}", mount_path: "\${A}", upstream: {url: "http://\${A}/mcp", static_headers: {X-Key: "\${A}"}}}
`,
    env,
  )
  t.match(config.core, {
    port: 8080,
    codeModeEnabled: true,
    publicBaseUrl: null,
    allowedHosts: ['alpha.example'],
  })
  t.match(config.servers[0], {
    id: 'alpha',
    mountPath: '/alpha',
    upstream: { staticHeaders: { 'X-Key': 'alpha' } },
  })
  t.match(problems(`"\${A}": 1\n${SERVERS}`, env), [{ path: '${A}', message: /not a known field/ }])
  t.same(report(`core:\n  host: "\${UNSET}"\n  auth: {token: "\${EMPTY}"}\n${SERVERS}`, env), [
    '2:9 core.host needs the environment variable UNSET, which is not set or empty; set it or give a default as ${UNSET:-value}',
    '3:17 core.auth.token needs the environment variable EMPTY, which is not set or empty; set it or give a default as ${EMPTY:-value}',
  ])
  t.notMatch(
    report(`core: {port: "\${A}"}\n${SERVERS}`, env).join(''),
    /alpha/,
    'values of variables are not shown',
  )
})

t.test('words, digits and quoted numbers count as what the field holds', async (t) => {
  for (const word of ['true', 'True', 'yes', 'on', '1', '"1"', 'y', '" ON "']) {
    t.equal(load(`core: {code_mode_enabled: ${word}}\n${SERVERS}`).core.codeModeEnabled, true, word)
  }
  for (const word of ['false', 'no', 'off', '0', '"f"']) {
    t.equal(load(`uploads: {enabled: ${word}}\n${SERVERS}`).uploads.enabled, false, word)
  }
  for (const port of ['9000', '"9000"', '" 9000 "', '"+9000"', '9000.0', '"9000.0"', '0x2328'])
    t.equal(load(`core: {port: ${port}}\n${SERVERS}`).core.port, 9000, port)
})

t.test('text is trimmed and brought into its normal form', async (t) => {
  const config = load(`core:
  log_level: " INFO "
  public_base_url: "https://a.example/base//"
  upload_path: " up/ "
  allowed_hosts: [" A.Example:80 "]
  auth: {header_name: "  "}
state_persistence: {redis: {username: " ", password: "", tls_insecure: true}}
storage: {root: /data/, artifact_locator_allowed_roots: [" /x ", ""]}
telemetry: {service_namespace: " ", transport: http}
uploads: {uri_scheme: " Upload:// "}
servers:
  - {id: " a ", mount_path: mcp//, upstream: {url: " http://u/mcp "}}
`)
  t.match(config, {
    core: {
      logLevel: 'info',
      publicBaseUrl: 'https://a.example/base',
      uploadPath: '/up',
      allowedHosts: ['a.example:80'],
      auth: { headerName: 'X-Mcp-Adapter-Auth-Token' },
    },
    statePersistence: {
      disk: { localPath: '/data/state/adapter_state.sqlite3' },
      redis: { username: null, password: null, tls: true },
    },
    storage: { artifactLocatorAllowedRoots: ['/x'] },
    telemetry: {
      serviceNamespace: null,
      endpoint: 'http://localhost:4318/v1/metrics',
      logsEndpoint: 'http://localhost:4318/v1/logs',
    },
    uploads: { uriScheme: 'upload://' },
    servers: [{ id: 'a', mountPath: '/mcp', upstream: { url: 'http://u/mcp' } }],
  })
})

t.test('a server inherits from core and an adapter from its server, key by key', async (t) => {
  const config = load(`core:
  defaults: {tool_call_timeout_seconds: 30, allow_raw_output: null}
  code_mode_enabled: true
  short_description_max_tokens: 8
  upstream_ping: {interval_seconds: 7}
  tool_description_policy: {mode: truncate, max_tool_description_chars: null}
  tool_metadata_sanitization: {max_tool_title_chars: 9}
  tool_definition_pinning: {mode: block}
servers:
  - {id: a, mount_path: /a, upstream: {url: "http://u"}, adapters: [{type: upload_consumer, tools: [t], file_path_argument: p}]}
  - id: b
    mount_path: /b
    upstream: {url: "http://u"}
    code_mode_enabled: false
    shorten_descriptions: true
    upstream_ping: {enabled: false}
    tool_defaults: {tool_call_timeout_seconds: 40, allow_raw_output: true}
    tool_description_policy: {max_tool_description_chars: 5}
    tool_metadata_sanitization: {mode: off, normalize_unicode: false, max_tool_title_chars: null}
    tool_definition_pinning: {block_strategy: baseline_subset}
    adapters:
      - {type: upload_consumer, tools: [t], file_path_argument: p, overrides: {tool_call_timeout_seconds: 50}}
      - {type: artifact_producer, tools: [t1], overrides: {allow_raw_output: false}}
      - {type: artifact_producer, tools: [t2], allow_raw_output: true, overrides: {allow_raw_output: false}}
      - {type: artifact_producer, tools: [t3], include_raw_output: false}
`)
  t.match(config.core.defaults, { toolCallTimeoutSeconds: 30, allowRawOutput: false })
  const [a, b] = config.servers
  t.match(a, {
    toolCallTimeoutSeconds: 30,
    allowRawOutput: false,
    codeModeEnabled: true,
    shortenDescriptions: false,
    shortDescriptionMaxTokens: 8,
    upstreamPing: config.core.upstreamPing,
    toolDescriptionPolicy: config.core.toolDescriptionPolicy,
    toolMetadataSanitization: config.core.toolMetadataSanitization,
    toolDefinitionPinning: config.core.toolDefinitionPinning,
    adapters: [{ toolCallTimeoutSeconds: 30, allowRawOutput: false, uriScheme: 'upload://' }],
  })
  t.match(b, {
    toolCallTimeoutSeconds: 40,
    allowRawOutput: true,
    codeModeEnabled: false,
    shortenDescriptions: true,
    upstreamPing: { enabled: false, intervalSeconds: 7, timeoutSeconds: 5 },
    toolDescriptionPolicy: {
      mode: 'truncate',
      maxToolDescriptionChars: 5,
      maxSchemaDescriptionChars: 280,
    },
    toolMetadataSanitization: {
      mode: 'off',
      normalizeUnicode: false,
      removeInvisibleCharacters: true,
      maxToolTitleChars: 9,
    },
    toolDefinitionPinning: {
      mode: 'block',
      blockStrategy: 'baseline_subset',
      blockErrorSessionAction: 'invalidate',
    },
  })
  t.same(
    b?.adapters.map(({ toolCallTimeoutSeconds, allowRawOutput }) => [
      toolCallTimeoutSeconds,
      allowRawOutput,
    ]),
    [
      [50, true],
      [40, false],
      [40, true],
      [40, false],
    ],
  )
  t.notOk(b?.adapters.some((adapter) => 'overrides' in adapter || 'includeRawOutput' in adapter))
})

function headersOf(url: string, more = ''): unknown {
  const text = `servers: [{id: a, mount_path: /a, upstream: {url: "${url}"${more}}}]`
  return load(text).servers[0]?.upstream.staticHeaders
}

t.test('credentials in the URL of an upstream are sent as HTTP Basic authentication', async (t) => {
  const encoded = Buffer.from('me:päss wörd').toString('base64')
  t.same(headersOf('http://me:p%C3%A4ss%20w%C3%B6rd@h/mcp'), { authorization: `Basic ${encoded}` })
  t.same(headersOf('http://me:100%25%zz@h/mcp'), {
    authorization: `Basic ${Buffer.from('me:100%25%zz').toString('base64')}`,
  })
  t.same(
    headersOf('http://me:secret@h/mcp', ', static_headers: {AUTHORIZATION: Bearer x}'),
    { AUTHORIZATION: 'Bearer x' },
    'a header that was given wins',
  )
  t.same(headersOf('http://h/mcp'), {})
})

t.test('locks follow the state backend when they are automatic', async (t) => {
  const redis = 'state_persistence: {type: redis, redis: {host: r}}\n'
  t.equal(load(SERVERS).storage.lockMode, 'file')
  t.equal(load(redis + SERVERS).storage.lockMode, 'redis')
  t.equal(load(`${redis}storage: {lock_mode: process}\n${SERVERS}`).storage.lockMode, 'process')
})

t.test('the shutdown timeout can be given by the environment', async (t) => {
  const name = 'MCP_ADAPTER_SHUTDOWN_TIMEOUT_SECONDS'
  const yaml = `core: {shutdown_timeout_seconds: 20}\n${SERVERS}`
  t.equal(load(yaml, { [name]: '3' }).core.shutdownTimeoutSeconds, 3)
  t.equal(load(yaml, { [name]: '' }).core.shutdownTimeoutSeconds, 20)
  for (const bad of ['0', 'soon', '1.5', '-1'])
    t.match(problems(yaml, { [name]: bad }), [
      { message: /MCP_ADAPTER_SHUTDOWN_TIMEOUT_SECONDS must be a whole number/ },
    ])
})

t.test(
  'the file is looked for where the command line, the environment and the conventions say',
  async (t) => {
    const cwd = t.testdir({})
    const system = join(cwd, 'system.yaml')
    const error = t.throws(() => resolveConfigPath(undefined, {}, cwd, system), ConfigError)
    t.match(error, { message: /--config/ })
    for (const place of ['MCP_ADAPTER_CONFIG', join(cwd, 'config.yaml'), system])
      t.ok(String(error).includes(place), `names ${place}`)
    writeFileSync(system, '')
    t.equal(resolveConfigPath(undefined, {}, cwd, system), system)
    writeFileSync(join(cwd, 'config.yaml'), '')
    t.equal(
      resolveConfigPath(undefined, { MCP_ADAPTER_CONFIG: '' }, cwd, system),
      join(cwd, 'config.yaml'),
    )
    writeFileSync(join(cwd, 'env.yaml'), '')
    const env = { MCP_ADAPTER_CONFIG: 'env.yaml' }
    t.equal(resolveConfigPath(undefined, env, cwd, system), join(cwd, 'env.yaml'))
    writeFileSync(join(cwd, 'cli.yaml'), '')
    t.equal(resolveConfigPath('cli.yaml', env, cwd, system), join(cwd, 'cli.yaml'))
    t.throws(
      () => resolveConfigPath('gone.yaml', env, cwd, system),
      /no such file \(named by --config\)/,
    )
  },
)

t.test('a file that cannot be read is a problem like any other', async (t) => {
  const cwd = t.testdir({})
  mkdirSync(join(cwd, 'folder'))
  for (const name of ['missing.yaml', 'folder'])
    t.match(
      t.throws(() => loadConfig({ path: join(cwd, name), env: {} }), ConfigError),
      { message: /can't be read/ },
    )
})
