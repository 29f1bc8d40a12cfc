/** The official clients find the authorization server by themselves: metadata, registration, PKCE, token, and then a tool call through the adapter. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Client as SecondClient } from '@modelcontextprotocol/client'
import { StreamableHTTPClientTransport as SecondTransport } from '@modelcontextprotocol/client'
import { UnauthorizedError as SecondUnauthorized } from '@modelcontextprotocol/client'
import type { OAuthClientProvider as SecondProvider } from '@modelcontextprotocol/client'
import type { OAuthClientProvider } from '@modelcontextprotocol/sdk/client/auth.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import t from 'tap'

import { startAuthorizationServer } from '../support/authorization-server.ts'
import { Credentials } from '../support/oauth-credentials.ts'
import { freePort } from '../support/redis.ts'
import { startReplica } from '../support/replica.ts'
import { fileServerSection, startFileServer } from '../support/upstreams/file-server.ts'

const workspace = await mkdtemp(join(tmpdir(), 'adapter-oauth-'))
const issuer = await startAuthorizationServer(['mcp', 'unrelated'])
const upstream = await startFileServer({ workspace })
const port = await freePort()
const base = `http://127.0.0.1:${port}`
const replica = await startReplica({
  port,
  config: {
    core: {
      public_base_url: base,
      auth: {
        enabled: true,
        jwt: { issuer: issuer.issuer, jwks_uri: issuer.jwksUri, required_scopes: ['mcp'] },
      },
    },
    servers: [
      fileServerSection(upstream.url, workspace),
      { ...fileServerSection(upstream.url, workspace), id: 'other', mount_path: '/mcp/other' },
    ],
  },
})
t.teardown(async () => {
  await replica.stop()
  await upstream.stop()
  await issuer.stop()
  await rm(workspace, { recursive: true, force: true })
})

t.test('the client of the 1.x SDK authorizes itself and calls a tool', async (t) => {
  const store = new Credentials()
  const provider: OAuthClientProvider = store.provider()
  const url = new URL(`${base}/mcp/files`)
  const first = new StreamableHTTPClientTransport(url, { authProvider: provider })
  await t.rejects(new Client({ name: 'v1', version: '1' }).connect(first), {
    message: 'Unauthorized',
  })
  await first.finishAuth(await store.approve())
  const client = new Client({ name: 'v1', version: '1' })
  const transport = new StreamableHTTPClientTransport(url, { authProvider: provider })
  await client.connect(transport)
  const result = await client.callTool({ name: 'echo', arguments: { text: 'authorized' } })
  t.match(JSON.stringify(result), /authorized/)
  await checkFlow(t, store)
  await transport.terminateSession()
  await client.close()
})

t.test('the client of the 2.x SDK does too', async (t) => {
  const store = new Credentials()
  const provider: SecondProvider = store.provider()
  const url = new URL(`${base}/mcp/files`)
  const first = new SecondTransport(url, { authProvider: provider })
  await t.rejects(new SecondClient({ name: 'v2', version: '1' }).connect(first), SecondUnauthorized)
  await first.finishAuth(await store.approve())
  const client = new SecondClient({ name: 'v2', version: '1' })
  await client.connect(new SecondTransport(url, { authProvider: provider }))
  const result = await client.callTool({ name: 'echo', arguments: { text: 'authorized too' } })
  t.match(JSON.stringify(result), /authorized too/)
  await checkFlow(t, store)
  await client.close()
})

async function checkFlow(t: Tap, store: Credentials): Promise<void> {
  t.equal(store.asked?.searchParams.get('resource'), `${base}/mcp/files`, 'for this very server')
  t.equal(store.asked?.searchParams.get('scope'), 'mcp', 'with the scope that the challenge named')
  const last = upstream.calls.at(-1)
  t.equal(last?.tool, 'echo')
  t.notOk(last !== undefined && 'authorization' in last.headers, 'the upstream gets no token')
  const token = store.accessToken
  t.notMatch(JSON.stringify(upstream.calls), token)
  t.notMatch(replica.logs(), token)
  const elsewhere = await fetch(`${base}/mcp/other`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
  })
  t.equal(elsewhere.status, 401, 'the token is good for no other server')
}

type Tap = Pick<typeof t, 'equal' | 'notOk' | 'notMatch'>
