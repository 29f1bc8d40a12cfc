/** What is generated or shown from the configuration: schema file, reference page, effective values, missing parts. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'
import { parse } from 'yaml'
import { z } from 'zod'

import {
  editorJsonSchema,
  renderJsonSchema,
  strictJsonSchema,
  type JsonSchema,
} from '../../src/shared/config/json-schema.ts'
import { loadConfig, parseConfig, type LoadedConfig } from '../../src/shared/config/load.ts'
import { printEffectiveConfig } from '../../src/shared/config/print.ts'
import { updateReferencePage } from '../../src/shared/config/reference.ts'
import { maskSecrets, maskUrls } from '../../src/shared/config/secrets.ts'
import { unbuiltFields } from '../../src/shared/config/unbuilt-fields.ts'

const ROOT = process.cwd()
const EXAMPLE = join(ROOT, 'examples', 'distributed-production.yaml')
const ENV = { MCP_ADAPTER_TOKEN: 'front-door', MCP_ADAPTER_SIGNING_SECRET: 'pen' }
const SERVERS = 'servers: [{id: a, mount_path: /a, upstream: {url: "http://u/mcp"}}]\n'

function load(text: string): LoadedConfig {
  return parseConfig({ text, path: 'config.yaml', env: {} })
}

t.test('the checked-in JSON Schema is the one that the code generates', async (t) => {
  t.equal(
    readFileSync(join(ROOT, 'config.schema.json'), 'utf8'),
    renderJsonSchema(),
    'run scripts/generate-config-docs.mjs',
  )
})

t.test('the checked-in reference tables are the ones that the code generates', async (t) => {
  const page = readFileSync(join(ROOT, 'docs', 'configuration.md'), 'utf8')
  t.equal(page, updateReferencePage(page), 'run scripts/generate-config-docs.mjs')
  t.throws(() => updateReferencePage('no markers'), /must contain/)
})

t.test('every field says what it does, and the reference page shows it', async (t) => {
  const page = readFileSync(join(ROOT, 'docs', 'configuration.md'), 'utf8')
  let count = 0
  const visit = (schema: JsonSchema, path: string): void => {
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      count++
      t.match(field.description, /\w.*\.$/, `${path}${name} has a description`)
      t.ok(page.includes(field.description ?? '?'), `${path}${name} is on the page`)
      visit(field, `${path}${name}.`)
    }
    if (schema.items) visit(schema.items, path)
    for (const option of [...(schema.oneOf ?? []), ...(schema.anyOf ?? [])]) visit(option, path)
  }
  visit(strictJsonSchema(), '')
  t.ok(count > 150, `${count} fields`)
})

t.test(
  'the examples of the page and of the repository satisfy the schema for editors',
  async (t) => {
    const { $schema } = editorJsonSchema()
    t.equal($schema, 'https://json-schema.org/draft/2020-12/schema')
    const checker = z.fromJSONSchema(
      z.record(z.string(), z.json()).parse(JSON.parse(renderJsonSchema())),
    )
    const allows = (yaml: string): boolean => checker.safeParse(parse(yaml)).success
    t.ok(allows(readFileSync(EXAMPLE, 'utf8')))
    const page = readFileSync(join(ROOT, 'docs', 'configuration.md'), 'utf8')
    const example = /```yaml\n(servers:[^`]*)```/.exec(page)?.[1] ?? ''
    t.ok(allows(example))
    t.ok(load(example).config.servers.length === 1)
    for (const yaml of [
      'core: {port: "${PORT}", workers: "${W:-2}", code_mode_enabled: "${C}", log_level: "${L}", max_message_bytes: "${M}"}',
      'core: {port: "8080", code_mode_enabled: "yes", max_message_bytes: 10 MiB, cleanup_interval_seconds: null}',
      'uploads: {uri_scheme: "${S}"}',
      'storage: {max_size: null, lock_mode: "${LOCK:-auto}"}',
    ])
      t.ok(allows(`${yaml}\n${SERVERS}`), yaml)
    for (const yaml of [
      'core: {port: soon}',
      'core: {prot: 1}',
      'core: {port: 0}',
      'core: {log_level: loud}',
      'storage: {max_size: 1.5Gi}',
      'core: {workers: []}',
    ])
      t.notOk(allows(`${yaml}\n${SERVERS}`), yaml)
  },
)

t.test('the effective configuration is printed without a single secret', async (t) => {
  const loaded = load(`core:
  auth: {enabled: true, token: s3cret-token, tokens: [{name: shown, token: s3cret-named}], signing_secret: s3cret-key}
state_persistence: {redis: {password: s3cret-redis, sentinel: {password: s3cret-sentinel}}}
telemetry: {endpoint: "https://user:s3cret-otel@otel/v1?api_key=s3cret-query", headers: {Authorization: s3cret-header}}
servers:
  - {id: a, mount_path: /a, upstream: {url: "http://user:s3cret-url@u/mcp", static_headers: {X-Key: s3cret-static}}}
`)
  const printed = printEffectiveConfig(loaded)
  t.notMatch(printed, /s3cret/)
  t.match(parse(printed), {
    core: {
      port: 8932,
      auth: {
        token: '<redacted>',
        tokens: [{ name: 'shown', token: '<redacted>' }],
        signing_secret: ['<redacted>'],
      },
    },
    state_persistence: {
      redis: { password: '<redacted>', username: null, sentinel: { password: '<redacted>' } },
    },
    telemetry: {
      endpoint: 'https://<redacted>@otel/v1?api_key=<redacted>',
      headers: { Authorization: '<redacted>' },
    },
    servers: [
      {
        upstream: { url: 'http://<redacted>@u/mcp', static_headers: { 'X-Key': '<redacted>' } },
        tool_defaults: { tool_call_timeout_seconds: 60 },
      },
    ],
  })
  t.equal(loaded.config.core.auth.token, 's3cret-token', 'the configuration itself keeps them')
  t.match(
    parse(printEffectiveConfig(load(SERVERS))),
    { core: { auth: { token: null } } },
    'an unset secret shows as unset',
  )
  t.equal(
    maskUrls('see https://a:b@h/p and redis://:x@r:1'),
    'see https://<redacted>@h/p and redis://<redacted>@r:1',
  )
  t.equal(maskUrls('https://h/p?q=1#me@x'), 'https://h/p?q=1#me@x')
  t.same(maskSecrets({ servers: [{ id: 'token' }] }), { servers: [{ id: 'token' }] })
})

t.test('the printed configuration loads to the same one', async (t) => {
  for (const loaded of [
    load(SERVERS),
    load(`core: {shorten_descriptions: true, defaults: {tool_call_timeout_seconds: null}}
telemetry: {transport: http}
servers:
  - id: a
    mount_path: /a
    upstream: {url: "http://u/mcp"}
    tool_defaults: {allow_raw_output: true}
    adapters:
      - {type: artifact_producer, tools: [t], include_raw_output: false}
      - {type: upload_consumer, tools: [t], file_path_argument: p}
`),
  ]) {
    t.strictSame(load(printEffectiveConfig(loaded)).config, loaded.config)
  }
})

t.test(
  'fields without effect are named only when the operator set them and they matter',
  async (t) => {
    t.same(unbuiltFields(load(SERVERS), [{ path: 'core.*' }, { path: 'telemetry.*' }]), [])
    const loaded = load(`core:
  port: 1
  code_mode_enabled: "no"
  cors: {allowed_origins: ["http://a", "http://b"]}
telemetry: {enabled: true, headers: {a: b}}
servers:
  - {id: a, mount_path: /a, code_mode_enabled: yes, upstream: {url: "http://u", transport: streamable_http}}
  - {id: b, mount_path: /b, code_mode_enabled: null, upstream: {url: "http://u", transport: sse}, upstream_ping: {enabled: false}}
  - {id: c, mount_path: /c, code_mode_enabled: no, upstream: {url: "http://u"}, upstream_ping: {interval_seconds: 3}}
`)
    const cases: [entry: Parameters<typeof unbuiltFields>[1], fields: string[]][] = [
      [[{ path: 'core.port' }], ['core.port']],
      [[{ path: 'core.host' }], []],
      [[{ path: 'core.code_mode_enabled', onlyFor: [true] }], []],
      [[{ path: 'core.cors.*' }], ['core.cors.allowed_origins']],
      [[{ path: 'core.cors.*', unless: { path: 'core.cors.enabled', is: [false] } }], []],
      [
        [{ path: 'telemetry.*', unless: { path: 'telemetry.enabled', is: [false] } }],
        ['telemetry.enabled', 'telemetry.headers'],
      ],
      [
        [{ path: 'servers[].code_mode_enabled', onlyFor: [true] }],
        ['servers[0].code_mode_enabled'],
      ],
      [
        [{ path: 'servers[].upstream.transport', onlyFor: ['sse'] }],
        ['servers[1].upstream.transport'],
      ],
      [
        [
          {
            path: 'servers[].upstream_ping.*',
            unless: { path: 'servers[].upstream_ping.enabled', is: [false] },
          },
        ],
        ['servers[2].upstream_ping.interval_seconds'],
      ],
      [[], []],
    ]
    for (const [notBuilt, fields] of cases)
      t.same(unbuiltFields(loaded, notBuilt), fields, JSON.stringify(notBuilt))
    t.same(
      unbuiltFields(loadConfig({ path: EXAMPLE, env: ENV })),
      [],
      'of what the program accepts nothing is without effect',
    )
  },
)
