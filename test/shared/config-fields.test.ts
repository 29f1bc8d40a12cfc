/** Defaults and bounds of every field, and the values that byte sizes can have. */

import t from 'tap'
import { z } from 'zod'

import { camelize, MAP_FIELDS } from '../../src/shared/config/camel.ts'
import { parseConfig } from '../../src/shared/config/load.ts'
import { ConfigError } from '../../src/shared/config/problems.ts'
import { documentSchema } from '../../src/shared/config/schema/document.ts'
import { isSection } from '../../src/shared/config/tree.ts'
import { formatByteSize, parseByteSize } from '../../src/shared/config/units.ts'
import { DEFAULTS } from './config-defaults.ts'

/** The least that a file with a server and both adapters can say. */
const SMALLEST = {
  servers: [
    {
      id: 'a',
      mount_path: '/a',
      upstream: { url: 'http://u/mcp' },
      adapters: [
        { type: 'upload_consumer', tools: ['t'], file_path_argument: 'p' },
        { type: 'artifact_producer', tools: ['t'] },
      ],
    },
  ],
}

const STDIO = { transport: 'stdio', command: 'server' }

/** Every field that holds a whole number, with its smallest value, its largest, and whether null is allowed. */
const NUMBERS: readonly (readonly [path: string, min: number, max: number, nullable: boolean])[] = [
  ['core.port', 1, 65535, false],
  ['core.workers', 1, Infinity, true],
  ['core.max_message_bytes', 1, Infinity, false],
  ['core.max_response_message_bytes', 1, Infinity, false],
  ['core.pre_drain_seconds', 0, Infinity, true],
  ['core.shutdown_timeout_seconds', 1, Infinity, false],
  ['core.max_start_wait_seconds', 0, Infinity, false],
  ['core.cleanup_interval_seconds', 1, Infinity, true],
  ['core.short_description_max_tokens', 1, Infinity, false],
  ['core.code_mode.timeout_seconds', 1, 3600, false],
  ['core.code_mode.compute_seconds', 1, 300, false],
  ['core.code_mode.memory', 4 * 1024 ** 2, 1024 ** 3, false],
  ['core.code_mode.max_tool_calls', 1, 10_000, false],
  ['core.code_mode.max_parallel_tool_calls', 1, 64, false],
  ['core.code_mode.max_code_bytes', 1024, 4 * 1024 ** 2, false],
  ['core.code_mode.max_output_bytes', 1024, 16 * 1024 ** 2, false],
  ['core.code_mode.max_console_bytes', 0, 4 * 1024 ** 2, false],
  ['core.code_mode.max_scripts', 1, 64, false],
  ['core.code_mode.max_scripts_per_session', 1, 64, false],
  ['core.upstream_metadata_cache_ttl_seconds', 0, Infinity, false],
  ['core.tool_description_policy.max_tool_description_chars', 1, Infinity, true],
  ['core.tool_description_policy.max_schema_description_chars', 1, Infinity, true],
  ['core.tool_metadata_sanitization.max_tool_title_chars', 1, Infinity, true],
  ['core.tool_metadata_sanitization.max_tool_description_chars', 1, Infinity, true],
  ['core.tool_metadata_sanitization.max_schema_text_chars', 1, Infinity, true],
  ['core.upstream_ping.interval_seconds', 1, Infinity, false],
  ['core.upstream_ping.timeout_seconds', 1, Infinity, false],
  ['core.upstream_ping.failure_threshold', 1, Infinity, false],
  ['core.upstream_ping.open_cooldown_seconds', 1, Infinity, false],
  ['core.upstream_ping.half_open_probe_allowance', 1, Infinity, false],
  ['core.auth.signed_upload_ttl_seconds', 1, Infinity, false],
  ['core.rate_limit.requests_per_minute', 1, Infinity, true],
  ['core.rate_limit.burst', 1, Infinity, true],
  ['core.cors.max_age_seconds', 0, 86400, false],
  ['core.auth.jwt.clock_tolerance_seconds', 0, 300, false],
  ['core.auth.jwt.jwks_cache_seconds', 1, 86_400, false],
  ['core.auth.jwt.jwks_cooldown_seconds', 1, 3_600, false],
  ['core.auth.jwt.jwks_timeout_seconds', 1, 8, false],
  ['core.defaults.tool_call_timeout_seconds', 1, Infinity, true],
  ['state_persistence.snapshot_interval_seconds', 1, Infinity, false],
  ['state_persistence.redis.port', 1, 65535, false],
  ['state_persistence.redis.db', 0, Infinity, false],
  ['state_persistence.redis.ping_seconds', 1, Infinity, false],
  ['state_persistence.redis.connect_timeout_seconds', 1, Infinity, false],
  ['state_persistence.redis.command_timeout_seconds', 1, Infinity, false],
  ['state_persistence.redis.unavailable_after_seconds', 1, Infinity, false],
  ['storage.max_size', 0, Infinity, true],
  ['storage.orphan_sweeper_grace_seconds', 0, Infinity, false],
  ['sessions.max_active', 1, Infinity, true],
  ['sessions.max_in_flight_per_session', 1, Infinity, true],
  ['sessions.idle_ttl_seconds', 1, Infinity, true],
  ['sessions.tombstone_ttl_seconds', 1, Infinity, false],
  ['sessions.upstream_session_termination_retries', 0, 5, false],
  ['sessions.max_total_session_size', 0, Infinity, true],
  ['uploads.max_file_bytes', 1, Infinity, false],
  ['uploads.ttl_seconds', 1, Infinity, true],
  ['artifacts.ttl_seconds', 1, Infinity, true],
  ['artifacts.max_per_session', 1, Infinity, true],
  ['telemetry.export_interval_seconds', 1, Infinity, false],
  ['telemetry.export_timeout_seconds', 1, Infinity, false],
  ['telemetry.max_queue_size', 1, Infinity, false],
  ['telemetry.queue_batch_size', 1, Infinity, false],
  ['telemetry.periodic_flush_seconds', 1, Infinity, false],
  ['telemetry.shutdown_drain_timeout_seconds', 1, Infinity, false],
  ['telemetry.log_batch_max_queue_size', 1, Infinity, true],
  ['telemetry.log_batch_max_export_batch_size', 1, Infinity, true],
  ['telemetry.log_batch_schedule_delay_millis', 1, Infinity, true],
  ['telemetry.log_batch_export_timeout_millis', 1, Infinity, true],
  ['servers.0.upstream.connect_timeout_seconds', 1, Infinity, false],
  ['servers.0.upstream.initialize_timeout_seconds', 1, Infinity, false],
  ['servers.0.upstream.max_connections', 1, Infinity, true],
  ['servers.0.upstream.stream_linger_seconds', 0, Infinity, false],
  ['servers.0.upstream.max_processes', 1, Infinity, false],
  ['servers.0.upstream.max_message_bytes', 1024, Infinity, false],
  ['servers.0.upstream.max_memory', 1024 ** 2, Infinity, true],
  ['servers.0.upstream.start_timeout_seconds', 1, Infinity, false],
  ['servers.0.upstream.stop_grace_seconds', 0, 60, false],
  ['servers.0.upstream.max_restarts', 1, Infinity, false],
  ['servers.0.upstream.restart_window_seconds', 1, Infinity, false],
  ['servers.0.upstream_ping.interval_seconds', 1, Infinity, true],
  ['servers.0.upstream_ping.timeout_seconds', 1, Infinity, true],
  ['servers.0.upstream_ping.failure_threshold', 1, Infinity, true],
  ['servers.0.upstream_ping.open_cooldown_seconds', 1, Infinity, true],
  ['servers.0.upstream_ping.half_open_probe_allowance', 1, Infinity, true],
  ['servers.0.tool_defaults.tool_call_timeout_seconds', 1, Infinity, true],
  ['servers.0.short_description_max_tokens', 1, Infinity, true],
  ['servers.0.tool_description_policy.max_tool_description_chars', 1, Infinity, true],
  ['servers.0.tool_description_policy.max_schema_description_chars', 1, Infinity, true],
  ['servers.0.tool_metadata_sanitization.max_tool_title_chars', 1, Infinity, true],
  ['servers.0.tool_metadata_sanitization.max_tool_description_chars', 1, Infinity, true],
  ['servers.0.tool_metadata_sanitization.max_schema_text_chars', 1, Infinity, true],
  ['servers.0.adapters.0.overrides.tool_call_timeout_seconds', 1, Infinity, true],
  ['servers.0.adapters.1.overrides.tool_call_timeout_seconds', 1, Infinity, true],
]

/** Fields that have no meaning with another transport than stdio. */
const OF_STDIO = /^servers\.0\.upstream\.(?:max_(?:proc|mess|mem|rest)|start_|stop_|restart_)/

/** The smallest file with one field set: JSON is YAML. */
function fileWith(path: string, value: unknown): string {
  const file = structuredClone(SMALLEST)
  const [server] = file.servers
  if (OF_STDIO.test(path)) Object.assign(server ?? {}, { upstream: { ...STDIO } })
  const keys = path.split('.')
  let node: unknown = file
  for (const [index, key] of keys.entries()) {
    const slot: unknown = Array.isArray(node) ? Number(key) : key
    const child =
      index === keys.length - 1 ? value : (Reflect.get(Object(node), String(slot)) ?? {})
    Reflect.set(Object(node), String(slot), child)
    node = child
  }
  return JSON.stringify(file)
}

function accepts(path: string, value: unknown): boolean {
  try {
    parseConfig({ text: fileWith(path, value), path: 'config.yaml', env: {} })
    return true
  } catch (error) {
    if (error instanceof ConfigError && error.problems.length === 1) return false
    throw error
  }
}

t.test('every field that is left out has its documented default', async (t) => {
  t.strictSame(documentSchema.parse(SMALLEST), DEFAULTS)
})

t.test('a default timeout stays when only a part of core.defaults is given', async (t) => {
  const { core } = documentSchema.parse({
    ...SMALLEST,
    core: { defaults: { allow_raw_output: true } },
  })
  t.same(core.defaults, { tool_call_timeout_seconds: 60, allow_raw_output: true })
})

t.test('every number is accepted at its bounds and refused beyond them', async (t) => {
  for (const [path, min, max, nullable] of NUMBERS) {
    t.ok(accepts(path, min), `${path} ${min}`)
    t.notOk(accepts(path, min - 1), `${path} below ${min}`)
    t.ok(accepts(path, Math.min(max, 2 ** 31)), `${path} large`)
    t.notOk(accepts(path, Number.isFinite(max) ? max + 1 : 2 ** 53), `${path} above its limit`)
    t.equal(accepts(path, null), nullable, `${path} null`)
  }
})

t.test('the table of numbers leaves none out', async (t) => {
  const numbers: string[] = []
  const collect = (schema: unknown, path: string): void => {
    const { def } = z.instanceof(z.ZodType).parse(schema)['_zod']
    if (schema instanceof z.ZodObject) {
      for (const [key, child] of Object.entries(schema.shape)) collect(child, `${path}.${key}`)
    } else if (schema instanceof z.ZodArray) collect(schema.element, `${path}.0`)
    else if (schema instanceof z.ZodDiscriminatedUnion) {
      const parent = path.replace(/\.0$/, '')
      for (const [index, option] of schema.options.entries()) collect(option, `${parent}.${index}`)
    } else if (schema instanceof z.ZodNumber) numbers.push(path.slice(1))
    else if ('innerType' in def) collect(def.innerType, path)
    else if (schema instanceof z.ZodPipe && schema.in instanceof z.ZodTransform)
      collect(schema.out, path)
  }
  collect(documentSchema, '')
  t.strictSame(numbers.toSorted(), NUMBERS.map(([path]) => path).toSorted())
})

t.test('keys become camelCase everywhere but in maps whose keys are data', async (t) => {
  t.strictSame(
    camelize({
      max_file_bytes: 1,
      a: [{ require_sha256: true }],
      static_headers: { x_y: 'z' },
      b_c: null,
    }),
    { maxFileBytes: 1, a: [{ requireSha256: true }], staticHeaders: { x_y: 'z' }, bC: null },
  )
  const maps: string[] = []
  const collect = (schema: unknown, key: string): void => {
    if (!isSection(schema)) return
    if (schema['propertyNames'] !== undefined) maps.push(key)
    if (isSection(schema['properties']))
      for (const [name, child] of Object.entries(schema['properties'])) collect(child, name)
    collect(schema['items'], key)
    if (Array.isArray(schema['oneOf'])) for (const option of schema['oneOf']) collect(option, key)
  }
  collect(z.toJSONSchema(documentSchema, { io: 'input' }), '')
  t.strictSame(new Set(maps), MAP_FIELDS, 'the list of maps is complete')
})

t.test('byte sizes are read with decimal and binary units and without fractions', async (t) => {
  const valid: [value: unknown, bytes: number][] = [
    [0, 0],
    [1500, 1500],
    ['0', 0],
    ['12', 12],
    ['12b', 12],
    ['1k', 1e3],
    ['1kb', 1e3],
    ['2M', 2e6],
    ['2MB', 2e6],
    ['3g', 3e9],
    ['3Gb', 3e9],
    ['4T', 4e12],
    ['4tb', 4e12],
    ['1ki', 1024],
    ['1KiB', 1024],
    ['10Mi', 10485760],
    ['10 MiB', 10485760],
    ['50Gi', 53687091200],
    ['50GIB', 53687091200],
    ['1Ti', 1099511627776],
    ['  7\tTiB  ', 7 * 1024 ** 4],
  ]
  for (const [value, bytes] of valid) t.equal(parseByteSize(value), bytes, String(value))
  const invalid = [
    -1,
    1.5,
    Number.NaN,
    Infinity,
    2 ** 53,
    '',
    ' ',
    'Mi',
    '1.5Gi',
    '-1',
    '+1',
    '1e3',
    '1x',
    '1kib2',
    '1 0',
    '1kibb',
    '1p',
    '0x10',
    '9007199254740992',
    '9999999Ti',
    null,
    undefined,
    true,
    [],
    {},
    '1constructor',
    '1to',
  ]
  for (const value of invalid) t.equal(parseByteSize(value), undefined, JSON.stringify(value))
  for (const [bytes, text] of [
    [0, '0'],
    [1500, '1500'],
    [1024, '1Ki'],
    [10485760, '10Mi'],
    [53687091200, '50Gi'],
    [2 ** 40, '1Ti'],
  ] as const) {
    t.equal(formatByteSize(bytes), text)
    t.equal(parseByteSize(text), bytes, `${text} reads back`)
  }
})
