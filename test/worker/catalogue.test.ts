import t from 'tap'

import type { JsonObject } from '../../src/shared/state/records.ts'
import { isJsonObject } from '../../src/worker/adapters/dot-path.ts'
import {
  mergeResourceList,
  mergeTemplateList,
  shapeInitialize,
  shapeTools,
} from '../../src/worker/catalogue/shape.ts'
import { helperToolName } from '../../src/worker/catalogue/offered.ts'
import { configOf, type ServerOverrides } from './adapters-fixture.ts'

function shapeToolList(...given: Parameters<typeof shapeTools>): JsonObject {
  return shapeTools(...given).result
}

const CONSUMER = { type: 'upload_consumer', tools: ['send'], file_path_argument: 'file' }
const PRODUCER = { type: 'artifact_producer', tools: ['make'] }

function configWith(server: ServerOverrides, rest: object = {}) {
  const config = configOf({ server, rest })
  const [first] = config.servers
  if (first === undefined) throw new Error('the configuration has no server')
  return { config, server: first }
}

/** As from the wire: `__proto__` is an own property. */
function parseJson(text: string): unknown {
  return JSON.parse(text)
}

/** The entries of a tools/list result, also those that are no tools. */
function entriesOf(result: JsonObject): readonly unknown[] {
  const { tools } = result
  if (!Array.isArray(tools)) throw new Error(`no tools: ${JSON.stringify(result)}`)
  return tools
}

function toolsOf(result: JsonObject): readonly JsonObject[] {
  return entriesOf(result).filter(isJsonObject)
}

t.test('a tool that takes uploads says so in its description and in the argument', (t) => {
  const { config, server } = configWith({ adapters: [CONSUMER] })
  const listed = {
    tools: [
      { name: 'other', description: 'stays', inputSchema: { type: 'object' }, vendor: { a: 1 } },
      {
        name: 'send',
        description: 'Sends a file.',
        'x-vendor': [1],
        inputSchema: {
          type: 'object',
          'x-schema': true,
          properties: {
            file: { type: 'string', description: 'Path of the file.', 'x-mcp-header': 'File' },
            __proto__x: { type: 'string' },
          },
        },
      },
    ],
    _meta: { kept: true },
  }
  const before = structuredClone(listed)
  const shaped = shapeToolList(listed, server, config, { addHelper: false })
  t.strictSame(listed, before, 'what was given is not changed')
  t.strictSame(shaped['_meta'], { kept: true })
  const [other, send] = toolsOf(shaped)
  t.equal(other, listed.tools[0], 'a tool without an adapter is the very same object')
  t.match(send?.['description'], /^Sends a file\.\n\nFiles: `file` takes upload:\/\/ handles/)
  t.match(send?.['description'], 'docs_get_upload_url')
  t.strictSame(send?.['x-vendor'], [1])
  t.match(send?.['inputSchema'], {
    'x-schema': true,
    properties: {
      file: {
        type: 'string',
        'x-mcp-header': 'File',
        description: /^Path of the file\. Pass a upload:\/\/ handle/,
      },
    },
  })
  t.end()
})

t.test(
  'the argument is found through objects and lists, and a missing one is described on the schema',
  (t) => {
    const shapes = [
      {
        path: 'input.files.path',
        schema: {
          properties: {
            input: {
              properties: {
                files: {
                  type: 'array',
                  items: { type: 'object', properties: { path: { type: 'string' } }, extra: 1 },
                },
              },
            },
          },
        },
        expected: {
          properties: {
            input: {
              properties: {
                files: {
                  type: 'array',
                  items: {
                    type: 'object',
                    extra: 1,
                    properties: { path: { description: /handle/ } },
                  },
                },
              },
            },
          },
        },
      },
      {
        path: 'file',
        schema: { properties: { file: true } },
        expected: { properties: { file: { description: /handle/ } } },
      },
      {
        path: 'file',
        schema: { description: 'All of it.', properties: { file: false } },
        expected: { description: /^All of it\. Pass/, properties: { file: false } },
      },
      {
        path: 'a.b',
        schema: {
          properties: { a: { $ref: '#/$defs/a' } },
          $defs: { a: { properties: { b: {} } } },
        },
        expected: { description: /handle/, properties: { a: { $ref: '#/$defs/a' } } },
      },
      {
        path: 'constructor.name',
        schema: { properties: {} },
        expected: { description: /handle/, properties: {} },
      },
      {
        path: '__proto__',
        schema: parseJson('{"properties":{"__proto__":{"type":"string"}}}'),
        expected: {},
      },
    ]
    for (const { path, schema, expected } of shapes) {
      const { config, server } = configWith({
        adapters: [{ ...CONSUMER, file_path_argument: path }],
      })
      const result = { tools: [{ name: 'send', inputSchema: schema }] }
      const [tool] = toolsOf(shapeToolList(result, server, config, { addHelper: false }))
      t.match(tool?.['inputSchema'], expected, path)
      if (path === '__proto__') {
        t.match(JSON.stringify(tool), /"__proto__":\{"type":"string","description":"Pass/)
      }
    }
    t.equal(Reflect.get({}, 'description'), undefined, 'no prototype was touched')
    t.end()
  },
)

t.test('the helper comes last, once, and only where it is offered', (t) => {
  const offered = configWith({ adapters: [CONSUMER] })
  const result = {
    tools: [{ name: 'b' }, { name: 'docs_get_upload_url', fake: true }, { name: 'a' }],
  }
  const names = (shaped: JsonObject) => toolsOf(shaped).map((tool) => tool['name'])
  const last = shapeToolList(result, offered.server, offered.config, { addHelper: true })
  t.strictSame(names(last), ['b', 'a', 'docs_get_upload_url'])
  t.notOk(
    toolsOf(last).some((tool) => 'fake' in tool),
    "the upstream's tool of that name is hidden",
  )
  const page = shapeToolList(result, offered.server, offered.config, { addHelper: false })
  t.strictSame(names(page), ['b', 'a'])
  const without = [
    configWith({ adapters: [PRODUCER] }),
    configWith({ adapters: [CONSUMER] }, { uploads: { enabled: false } }),
    configWith({ adapters: [CONSUMER], disabled_tools: ['.*_get_upload_url'] }),
  ]
  for (const { server, config } of without) {
    const shaped = shapeToolList({ tools: [{ name: 'a' }] }, server, config, { addHelper: true })
    t.strictSame(names(shaped), ['a'])
  }
  t.end()
})

t.test('the helper describes its output completely and takes no arguments', (t) => {
  const { config, server } = configWith({ adapters: [CONSUMER] })
  const [helper] = toolsOf(shapeToolList({ tools: [] }, server, config, { addHelper: true }))
  t.match(helper, {
    title: 'Construct Upload Endpoint',
    inputSchema: { type: 'object', properties: {} },
    outputSchema: { type: 'object', properties: { upload_url: { type: 'string' } } },
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
  })
  t.end()
})

t.test('disabled tools are hidden by exact name and by whole-name pattern', (t) => {
  const { config, server } = configWith({ disabled_tools: ['a.c', 'x\\[', 'del_.*'] })
  const names = ['a.c', 'abc', 'abcd', 'x[', 'del_all', 'undel_all']
  const result = { tools: names.map((name) => ({ name })) }
  const shaped = shapeToolList(result, server, config, { addHelper: true })
  t.strictSame(
    toolsOf(shaped).map((tool) => tool['name']),
    ['abcd', 'undel_all'],
  )
  t.end()
})

t.test('a list that is not one, and entries that are no tools, pass as they are', (t) => {
  const { config, server } = configWith({ adapters: [CONSUMER] })
  const odd = { tools: 'none' }
  t.equal(shapeToolList(odd, server, config, { addHelper: true }), odd)
  const entries = { tools: [null, 7, { title: 'no name' }, { name: 'send', inputSchema: 'odd' }] }
  const shaped = entriesOf(shapeToolList(entries, server, config, { addHelper: false }))
  t.strictSame(shaped.slice(0, 3), [null, 7, { title: 'no name' }])
  t.match(shaped[3], { inputSchema: 'odd', description: /^Files:/ })
  t.end()
})

t.test(
  'shortened descriptions keep the first words of the first sentence and the guidance',
  (t) => {
    const { config, server } = configWith({
      adapters: [CONSUMER],
      shorten_descriptions: true,
      short_description_max_tokens: 3,
    })
    const tools = [{ name: 'send', description: 'Sends one\n  file to v1.2 of it. And more.' }]
    const [send] = toolsOf(shapeToolList({ tools }, server, config, { addHelper: false }))
    t.match(send?.['description'], /^Purpose: Sends one file\.\.\.\n\nFiles:/)
    t.end()
  },
)

t.test('initialize declares what the adapter adds and tells what the upstream had', (t) => {
  const { config, server } = configWith({ adapters: [CONSUMER, PRODUCER] })
  const given = { capabilities: { prompts: {}, experimental: { x: 1 } }, serverInfo: { name: 'u' } }
  t.strictSame(shapeInitialize(given, server, config), {
    result: {
      capabilities: {
        prompts: {},
        experimental: { x: 1 },
        tools: {},
        resources: { listChanged: true },
      },
      serverInfo: { name: 'u' },
    },
    upstreamHas: { tools: false, resources: false },
  })
  const rich = { capabilities: { tools: { listChanged: true }, resources: { subscribe: true } } }
  t.strictSame(shapeInitialize(rich, server, config), {
    result: {
      capabilities: {
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
      },
    },
    upstreamHas: { tools: true, resources: true },
  })
  const plain = configWith({})
  const shaped = shapeInitialize(given, plain.server, plain.config)
  t.equal(shaped.result, given, 'without adapters nothing changes')
  t.end()
})

t.test('initialize does not promise artifact resources that can not be seen', (t) => {
  const hidden = [
    configWith({ adapters: [PRODUCER] }, { artifacts: { enabled: false } }),
    configWith({ adapters: [PRODUCER] }, { artifacts: { expose_as_resources: false } }),
    configWith({ adapters: [{ ...PRODUCER, expose_as_resource: false }] }),
    configWith({ adapters: [{ ...PRODUCER, persist: false }] }),
  ]
  for (const { server, config } of hidden) {
    t.strictSame(shapeInitialize({ capabilities: {} }, server, config).result, { capabilities: {} })
  }
  t.end()
})

t.test('merged listings put ours after the upstream’s and keep every field', (t) => {
  const listed = { resources: [{ uri: 'a:1', vendor: 1 }], nextCursor: 'x', _meta: { k: 1 } }
  t.strictSame(mergeResourceList(listed, [{ uri: 'artifact://1' }]), {
    resources: [{ uri: 'a:1', vendor: 1 }, { uri: 'artifact://1' }],
    nextCursor: 'x',
    _meta: { k: 1 },
  })
  t.equal(mergeResourceList(listed, []), listed)
  t.strictSame(mergeTemplateList({}, [{ uriTemplate: 'x' }]), {
    resourceTemplates: [{ uriTemplate: 'x' }],
  })
  t.end()
})

t.test('the helper’s name is made of the server id', (t) => {
  t.equal(helperToolName('my server-1'), 'my_server_1_get_upload_url')
  t.equal(helperToolName('__a.b__'), 'a_b_get_upload_url')
  t.equal(helperToolName('...'), 'server_get_upload_url')
  t.end()
})
