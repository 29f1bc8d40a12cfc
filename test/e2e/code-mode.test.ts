/** Code mode as clients meet it: SDK clients and real upstreams, files, limits, and what stays as it was. */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import {
  Client as ModernClient,
  StreamableHTTPClientTransport as ModernTransport,
} from '@modelcontextprotocol/client'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'

import { parseConfig } from '../../src/shared/config/load.ts'
import { startReplica } from '../support/replica.ts'
import { startEverythingServer } from '../support/upstreams/everything-server.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'
import { textOf } from '../support/tool-result.ts'
import type { ToolResult } from '../support/tool-result.ts'

const workspace = await mkdtemp(join(tmpdir(), 'adapter-code-'))
const files = await startFileServer({ workspace })
const everything = await startEverythingServer()
const bare = { mode: 'regex' }
const replica = await startReplica({
  config: {
    core: {
      workers: 1,
      allow_artifacts_download: true,
      code_mode_enabled: true,
      code_mode: {
        compute_seconds: 1,
        timeout_seconds: 20,
        max_tool_calls: 20,
        max_output_bytes: 65_536,
        memory: '32Mi',
      },
    },
    sessions: { max_in_flight_per_session: 4 },
    servers: [
      {
        id: 'files',
        mount_path: '/mcp/files',
        upstream: { url: files.url, workspace_root: workspace },
        disabled_tools: ['echo', 'symlink.*'],
        adapters: [
          { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
          {
            type: 'artifact_producer',
            tools: ['write_report'],
            output_path_argument: 'filename',
            output_locator: bare,
          },
        ],
      },
      { id: 'everything', mount_path: '/mcp/everything', upstream: { url: everything.url } },
      {
        id: 'plain',
        mount_path: '/mcp/plain',
        code_mode_enabled: false,
        upstream: { url: files.url },
      },
      {
        id: 'no-scripts',
        mount_path: '/mcp/no-scripts',
        upstream: { url: files.url },
        disabled_tools: ['no_scripts_execute'],
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await Promise.all([files.stop(), everything.stop()])
  await rm(workspace, { recursive: true, force: true })
})

async function connect(server: string): Promise<Client> {
  const client = new Client({ name: 'code', version: '1' }, { capabilities: { elicitation: {} } })
  await client.connect(new StreamableHTTPClientTransport(new URL(`${replica.url}/mcp/${server}`)))
  return client
}

async function call(
  client: Client,
  name: string,
  args: Record<string, unknown> = {},
): Promise<ToolResult> {
  // A CallToolResult, as the client has checked.
  return (await client.callTool({ name, arguments: args })) as unknown as ToolResult
}

t.test('the example configuration has code mode on', async (t) => {
  const path = 'examples/code-mode.yaml'
  const { servers, core } = parseConfig({ text: readFileSync(path, 'utf8'), path, env: {} }).config
  t.equal(servers[0]?.codeModeEnabled, true)
  t.match(core.codeMode, { computeSeconds: 5, memory: 32 * 1024 * 1024, maxScripts: 2 })
})

t.test(
  'clients see three tools and the helper in place of the upstream’s; other servers are as they were',
  async (t) => {
    const client = await connect('files')
    const { tools } = await client.listTools()
    t.same(
      tools.map(({ name }) => name),
      ['files_search', 'files_get_schema', 'files_execute', 'files_get_upload_url'],
    )
    const everythingTools = await (await connect('everything')).listTools()
    t.same(
      everythingTools.tools.map(({ name }) => name),
      ['everything_search', 'everything_get_schema', 'everything_execute'],
    )
    const plain = await (await connect('plain')).listTools()
    t.ok(plain.tools.some(({ name }) => name === 'read_file'))
    t.notOk(plain.tools.some(({ name }) => name.endsWith('_execute')))
    const noScripts = await connect('no-scripts')
    t.same(
      (await noScripts.listTools()).tools.map(({ name }) => name),
      ['no_scripts_search', 'no_scripts_get_schema'],
    )
    await t.rejects(call(noScripts, 'no_scripts_execute', { code: 'return 1' }), /Unknown tool/)
    await client.close()
  },
)

t.test(
  'search and get_schema speak of the shaped catalogue, in three degrees of detail',
  async (t) => {
    const client = await connect('files')
    const found = await call(client, 'files_search', { query: 'digest of file' })
    t.match(textOf(found), /^\d+ of \d+ tools that fit/)
    t.match(textOf(found), /- read_file: /)
    t.match(
      textOf(await call(client, 'files_search', { query: 'readFile', limit: 1 })),
      /read_file/,
    )
    const all = textOf(await call(client, 'files_search'))
    t.match(all, /write_report/)
    t.match(all, /files_get_upload_url/)
    t.notMatch(all, /echo|symlink/, 'disabled tools are not found')
    t.match(textOf(await call(client, 'files_search', { query: 'zzzzqqq' })), /No tool of/)
    t.match(textOf(await call(client, 'files_search', { tags: ['none'] })), /No tool of/)

    const schema = textOf(await call(client, 'files_get_schema', { tools: ['read_file', 'echo'] }))
    t.match(schema, /## read_file\n.*\n?.*Arguments:\n- path \(/s)
    t.match(schema, /upload:\/\//, 'with the guidance on uploads')
    t.match(schema, /There is no tool echo/)
    const full = textOf(
      await call(client, 'files_get_schema', { tools: ['read_file'], detail: 'full' }),
    )
    t.match(JSON.parse(full), [{ name: 'read_file', inputSchema: { type: 'object' } }])

    const bad: readonly [string, Record<string, unknown>, RegExp][] = [
      ['files_search', { query: 5 }, /query must be text/],
      ['files_search', { limit: 0 }, /limit must be/],
      ['files_search', { detail: 'all' }, /detail must be one of/],
      ['files_search', { tags: 'a' }, /tags must be a list/],
      ['files_get_schema', {}, /tools must be a list/],
      ['files_get_schema', { tools: [] }, /at least one/],
      ['files_get_schema', { tools: ['nope'] }, /There is no tool nope/],
      ['files_execute', {}, /code is missing/],
      ['files_execute', { code: 5 }, /code is missing/],
      ['files_execute', { code: `/*${'x'.repeat(300_000)}*/` }, /larger than/],
    ]
    for (const [tool, args, expected] of bad) {
      const result = await call(client, tool, args)
      t.equal(result.isError, true, `${tool} ${JSON.stringify(args).slice(0, 60)}`)
      t.match(textOf(result), expected)
    }
    await client.close()
  },
)

t.test(
  'a script takes an upload by its handle and makes artifacts, which come with its result',
  async (t) => {
    const client = await connect('files')
    const helper = await client.callTool({ name: 'files_get_upload_url', arguments: {} })
    const { upload_url: uploadUrl } = helper.structuredContent as { upload_url: string } // the helper's declared output
    const form = new FormData()
    form.append('file', new Blob(['bytes of the client']), 'in.txt')
    const posted = (await (await fetch(uploadUrl, { method: 'POST', body: form })).json()) as {
      upload_handle: string
      upload: { sha256: string }
    }
    const code = `const read = await callTool('read_file', {path: ${JSON.stringify(posted.upload_handle)}})
console.log('read', read.content.length)
const [one, two] = await Promise.all(['one', 'two'].map((name) => callTool('write_report', {filename: name + '.txt', content: name})))
return {text: read.content[0].text, first: one._meta.artifact.filename, uri: two._meta.artifact.artifact_uri}`
    const result = await call(client, 'files_execute', { code })
    t.notOk(result.isError, textOf(result))
    const value = result.structuredContent?.result as { text: string; first: string; uri: string } // what the script returns
    t.match(value.text, posted.upload.sha256)
    t.equal(value.first, 'one.txt')
    t.equal(result.structuredContent?.console, 'read 1')
    t.equal(result.structuredContent?.tool_calls, 3)
    const artifacts = result._meta?.artifacts ?? []
    t.same(artifacts.map(({ filename }) => filename).toSorted(), ['one.txt', 'two.txt'])
    const links = result.content.filter(({ type }) => type === 'resource_link')
    t.same(
      links.map(({ uri }) => String(uri)).toSorted(),
      artifacts.map((one) => one.artifact_uri).toSorted(),
    )
    t.match(textOf(result), /Download one\.txt: http/)
    t.match((await client.readResource({ uri: value.uri })).contents, [{ text: 'two' }])
    t.equal(
      await (await fetch(result._meta?.artifact?.download_url ?? '')).text(),
      result._meta?.artifact?.filename.slice(0, 3),
    )

    const failed = await call(client, 'files_execute', {
      code: `await callTool('write_report', {filename: 'kept.txt'})\nthrow new Error('later')`,
    })
    t.equal(failed.isError, true)
    t.match(textOf(failed), /^Error: later\n {4}at line 2/)
    t.equal(
      failed._meta?.artifact?.filename,
      'kept.txt',
      'a file that was made is not lost with the script',
    )

    const foreign = await call(client, 'files_execute', {
      code: `return callTool('read_file', {path: 'upload://sessions/other/x'})`,
    })
    t.equal(foreign.isError, true)
    t.match(textOf(foreign), /^ToolError: .*\n {4}at line 1/s)
    await client.close()
  },
)

t.test(
  'what is refused to a client is refused to its scripts, and a hidden tool can still be called by name',
  async (t) => {
    const client = await connect('files')
    const before = files.calls.length
    for (const tool of [
      'echo',
      'symlink_output',
      'files_execute',
      'files_search',
      'no_such_tool',
    ]) {
      const result = await call(client, 'files_execute', {
        code: `return callTool('${tool}', {code: 'return 1'})`,
      })
      t.equal(result.isError, true, tool)
      t.match(textOf(result), /ToolError/, tool)
    }
    t.notOk(
      files.calls.slice(before).some(({ tool }) => tool === 'echo' || tool === 'symlink_output'),
      'disabled tools were not called',
    )
    const direct = await call(client, 'write_report', { filename: 'direct.txt', content: 'd' })
    t.equal(direct._meta?.artifact?.filename, 'direct.txt')
    await t.rejects(call(client, 'echo', {}), /Unknown tool/)
    const failing = await call(client, 'files_execute', {
      code: `try { await callTool('fail') } catch (e) { return [e.name, e.message, e.result.isError] }`,
    })
    t.same(failing.structuredContent?.result, ['ToolError', 'This tool always fails', true])
    await client.close()
  },
)

t.test('a script that misbehaves fails alone', async (t) => {
  const client = await connect('files')
  const bad: readonly [string, RegExp][] = [
    ['for (;;);', /compute_seconds/],
    ['const a = []; for (;;) a.push(new Uint8Array(1 << 20))', /out of memory/],
    ['return "x".repeat(1e5)', /max_output_bytes/],
    ['const f = () => f(); f()', /stack overflow|Maximum call stack/],
    ['\nreturn process.env', /ReferenceError: .*\n {4}at line 2/],
    ['await callTool("fail", 5)', /TypeError/],
    ['for (let i = 0; ; i++) await callTool("write_elsewhere")', /max_tool_calls/],
    ['return (', /SyntaxError/],
  ]
  for (const [code, expected] of bad) {
    const result = await call(client, 'files_execute', { code })
    t.equal(result.isError, true, code)
    t.match(textOf(result), expected, code)
  }
  const quiet = await call(client, 'files_execute', { code: 'console.log("only printed")' })
  t.match(textOf(quiet), 'The script returned nothing.\nPrinted:\nonly printed')
  t.match((await call(client, 'files_execute', { code: 'return 1' })).structuredContent, {
    result: 1,
    tool_calls: 0,
  })
  await client.close()
})

t.test('what upstreams say and ask during a call of a script reaches the client', async (t) => {
  const client = await connect('everything')
  const asked: string[] = []
  client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
    asked.push(params.message)
    return { action: 'accept', content: { username: 'ada', email: 'a@b.c' } }
  })
  const said: string[] = []
  const code = `const logged = await callTool('test_tool_with_logging')
const told = await callTool('test_tool_with_progress')
const answer = await callTool('test_elicitation', {message: 'who?'})
return answer.content[0].text`
  const result = (await client.callTool(
    { name: 'everything_execute', arguments: { code } },
    undefined,
    {
      onprogress: ({ message }) => said.push(message ?? ''),
    },
  )) as unknown as ToolResult // a CallToolResult, as the client has checked
  t.same(asked, ['who?'])
  t.match(result.structuredContent?.result, /User response: .*ada/)
  t.ok(said.includes('1 calls done, the last of test_tool_with_logging'), said.join())
  t.ok(said.length >= 6, `three of a tool, and three of calls: ${said.join()}`)
  await client.close()
})

t.test('clients of the revision without sessions have code mode too', async (t) => {
  const client = new ModernClient(
    { name: 'modern', version: '1' },
    { versionNegotiation: { mode: { pin: '2026-07-28' } } },
  )
  await client.connect(new ModernTransport(new URL(`${replica.url}/mcp/everything`)))
  const { tools } = await client.listTools()
  t.same(
    tools.map(({ name }) => name),
    ['everything_search', 'everything_get_schema', 'everything_execute'],
  )
  const ask = async (name: string, args: Record<string, unknown>): Promise<ToolResult> =>
    // A CallToolResult, as the client has checked.
    (await client.callTool({ name, arguments: args })) as unknown as ToolResult
  t.match(textOf(await ask('everything_search', { query: 'echo message' })), /test_echo/)
  const code = `const echo = await callTool('test_echo', {message: 'häßlich'})
const header = await callTool('test_custom_header', {region: 'eu west'})
return [echo.content[0].text, header.content[0].text]`
  const result = await ask('everything_execute', { code })
  t.same(result.structuredContent?.result, ['häßlich', 'Region: eu west'], textOf(result))
  const asking = await ask('everything_execute', {
    code: `return callTool('test_input_required_result_elicitation')`,
  })
  t.equal(asking.isError, true)
  await client.close()
})

t.test('hundreds of scripts in a row leave the session and the process as they were', async (t) => {
  const client = await connect('files')
  const codes = [
    'return 1',
    'return callTool("write_elsewhere")',
    'null.f()',
    'callTool("slow", {ms: 50}); return 2',
  ]
  for (let i = 0; i < 300; i += 2) {
    const [one, two] = await Promise.all(
      [0, 1].map((n) => call(client, 'files_execute', { code: codes[(i + n) % codes.length] })),
    )
    t.notMatch(textOf(one ?? two ?? { content: [] }), /max_in_flight|max_scripts/)
  }
  const last = await call(client, 'files_execute', {
    code: 'return (await Promise.all([1, 2, 3, 4].map(() => callTool("write_elsewhere")))).length',
  })
  t.equal(last.structuredContent?.result, 4, textOf(last))
  await client.close()
})
