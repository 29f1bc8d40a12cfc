/** Files in and out through the adapter, with the official SDK client and a real upstream. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import t from 'tap'

import { startReplica } from '../support/replica.ts'
import { startFileServer } from '../support/upstreams/file-server.ts'

const workspace = await mkdtemp(join(tmpdir(), 'adapter-files-'))
const upstream = await startFileServer({ workspace })
const replica = await startReplica({
  config: {
    core: { allow_artifacts_download: true },
    servers: [
      {
        id: 'files',
        mount_path: '/mcp/files',
        upstream: { url: upstream.url, workspace_root: workspace },
        adapters: [
          { type: 'upload_consumer', tools: ['read_file'], file_path_argument: 'path' },
          { type: 'upload_consumer', tools: ['read_files'], file_path_argument: 'paths' },
          {
            type: 'artifact_producer',
            tools: ['write_report'],
            output_path_argument: 'filename',
            output_locator: { mode: 'regex' },
          },
          {
            type: 'artifact_producer',
            tools: ['write_elsewhere'],
            output_locator: { mode: 'regex' },
          },
        ],
      },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  await rm(workspace, { recursive: true, force: true })
})

async function connect(): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' })
  await client.connect(new StreamableHTTPClientTransport(new URL(`${replica.url}/mcp/files`)))
  return client
}

interface UploadUrl {
  upload_url: string
}

t.test(
  'a file that a client posts reaches a tool as a path, and a report comes back as an artifact',
  async (t) => {
    const client = await connect()
    const tools = await client.listTools()
    t.ok(
      tools.tools.some((tool) => tool.name === 'files_get_upload_url'),
      'the helper tool is listed',
    )
    const helper = await client.callTool({ name: 'files_get_upload_url', arguments: {} })
    const { upload_url: uploadUrl } = helper.structuredContent as UploadUrl // the helper's declared output
    const bytes = Buffer.alloc(300_000, 'abc')
    const form = new FormData()
    form.append('file', new Blob([bytes]), 'Bericht – año 報告.txt')
    const posted = await fetch(uploadUrl, { method: 'POST', body: form })
    const answer = (await posted.json()) as { upload_handle: string; upload: { sha256: string } }
    t.equal(posted.status, 200, JSON.stringify(answer))
    t.equal(answer.upload.sha256, createHash('sha256').update(bytes).digest('hex'))

    const read = await client.callTool({
      name: 'read_file',
      arguments: { path: answer.upload_handle },
    })
    t.match(JSON.stringify(read.content), answer.upload.sha256, 'the tool read the same bytes')

    const report = await client.callTool({
      name: 'write_report',
      arguments: { filename: 'out.txt', content: 'hello report' },
    })
    const artifact = (report._meta as { artifact: { artifact_uri: string; download_url: string } })
      .artifact
    const resource = await client.readResource({ uri: artifact.artifact_uri })
    t.match(resource.contents, [{ text: 'hello report' }])
    const download = await fetch(artifact.download_url)
    t.equal(await download.text(), 'hello report')
    t.ok((await client.listResources()).resources.some((one) => one.uri === artifact.artifact_uri))

    const elsewhere = await client.callTool({ name: 'write_elsewhere', arguments: {} })
    t.ok(
      (elsewhere._meta as { artifact?: unknown } | undefined)?.artifact,
      JSON.stringify(elsewhere),
    )
    await client.close()
  },
)
