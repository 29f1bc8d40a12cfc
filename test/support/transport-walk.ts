/** One way of a client through everything that a transport has to carry: the same steps, whatever is between client and server. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  CallToolResultSchema,
  ElicitRequestSchema,
  LoggingMessageNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { Test } from 'tap'

import { eventually, within } from './eventually.ts'

/** Longest time of one step, in milliseconds. */
const STEP_MS = 20_000

/** What a client walks along. */
export interface WalkWay {
  /** The client's first connection. */
  connect(): Transport
  /** Another one for the session of the first, which was cut; undefined where the way itself is the session. */
  reconnect?: ((former: Transport) => Transport) | undefined
  /** Whether an adapter is between, so that files go in and out. */
  readonly movesFiles: boolean
}

/** Walks; each step is an assertion of `t`. Closes what it opened. */
export async function walk(t: Test, way: WalkWay): Promise<void> {
  const { client, heard } = newClient()
  let transport = way.connect()
  await within('the client connects', client.connect(transport), STEP_MS)
  t.teardown(() => client.close())

  t.equal(await textOf(client, 'greet', { name: 'Ada' }), 'Hello, Ada; call 1', 'a call')

  const steps: number[] = []
  const counted = await textOf(
    client,
    'count',
    { to: 5 },
    { onprogress: (step) => steps.push(step) },
  )
  t.equal(counted, 'counted to 5')
  t.same(steps, [1, 2, 3, 4, 5], 'progress, in order, before the result')

  const cancel = new AbortController()
  const waiting = textOf(
    client,
    'wait',
    { word: 'given-up' },
    { signal: cancel.signal, onprogress: () => cancel.abort('not needed any more') },
  )
  await t.rejects(within('a cancelled call ends', waiting, STEP_MS), 'a cancellation')
  await eventually(
    'the server hears of it',
    async () => (await textOf(client, 'cancelled', {})) === 'given-up',
    STEP_MS,
  )

  t.equal(await textOf(client, 'ask', {}), '{"name":"Ada"}', 'an elicitation')
  await textOf(client, 'announce', { data: 'first' })
  await eventually('a message outside of calls arrives', () => heard.includes('first'), STEP_MS)
  if (way.movesFiles) await moveFiles(t, client)
  if (way.reconnect === undefined) return

  await client.close()
  const again = newClient()
  transport = way.reconnect(transport)
  await within('the client comes back', again.client.connect(transport), STEP_MS)
  t.teardown(() => again.client.close())
  // The SDK opens its stream when it has said this; in a session that goes on, it says it of itself no more.
  await again.client.notification({ method: 'notifications/initialized' })
  t.equal(
    await textOf(again.client, 'greet', { name: 'Eve' }),
    'Hello, Eve; call 2',
    'the same session of the server after a reconnection',
  )
  await eventually(
    'messages outside of calls arrive again',
    async () => {
      await textOf(again.client, 'announce', { data: 'second' })
      return again.heard.includes('second')
    },
    STEP_MS,
  )
  t.equal(await textOf(again.client, 'ask', {}), '{"name":"Ada"}', 'and so do questions')
}

async function moveFiles(t: Test, client: Client): Promise<void> {
  const helper = await call(client, 'walk_get_upload_url', {})
  const form = new FormData()
  form.append('file', new Blob(['from the client']), 'in.txt')
  const sent = await fetch(String(helper.structuredContent?.['upload_url']), {
    method: 'POST',
    body: form,
  })
  const { upload_handle: path } = (await sent.json()) as { upload_handle: string } // documented
  t.equal(await textOf(client, 'read', { path }), 'from the client', 'an upload')
  const written = await call(client, 'write', { path: 'out.txt', text: 'to the client' })
  // What the adapter documents for `_meta.artifact`.
  const artifact = written._meta?.['artifact'] as { artifact_uri: string; download_url: string }
  t.equal(await (await fetch(artifact.download_url)).text(), 'to the client', 'an artifact')
  const { contents } = await client.readResource({ uri: artifact.artifact_uri })
  t.match(contents, [{ text: 'to the client' }], 'as a resource, too')
}

function newClient(): { readonly client: Client; readonly heard: unknown[] } {
  const heard: unknown[] = []
  const client = new Client({ name: 'walker', version: '1' }, { capabilities: { elicitation: {} } })
  client.setRequestHandler(ElicitRequestSchema, () => {
    return { action: 'accept', content: { name: 'Ada' } }
  })
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    heard.push(params.data)
  })
  return { client, heard }
}

interface CallOptions {
  readonly signal?: AbortSignal
  readonly onprogress?: (step: number) => void
}

async function call(
  client: Client,
  name: string,
  args: Record<string, unknown>,
  { signal, onprogress }: CallOptions = {},
) {
  const result = await client.callTool({ name, arguments: args }, undefined, {
    timeout: STEP_MS,
    ...(signal === undefined ? {} : { signal }),
    ...(onprogress === undefined
      ? {}
      : { onprogress: ({ progress }: { progress: number }) => onprogress(progress) }),
  })
  return CallToolResultSchema.parse(result)
}

async function textOf(
  client: Client,
  name: string,
  args: Record<string, unknown>,
  options: CallOptions = {},
): Promise<string> {
  const { content } = await call(client, name, args, options)
  return content.map((block) => (block.type === 'text' ? block.text : '')).join('\n')
}
