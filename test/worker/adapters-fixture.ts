/** One server with adapters over real files, a real store in memory and the real digest pool; the upstream is the test. */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import type { Config } from '../../src/shared/config/config.ts'
import { parseConfig } from '../../src/shared/config/load.ts'
import { FileStore } from '../../src/shared/files/file-store.ts'
import { mintSessionId, mintUploadId } from '../../src/shared/ids.ts'
import { UrlSigner } from '../../src/shared/signing.ts'
import type { FileRef, JsonObject, SessionKey } from '../../src/shared/state/records.ts'
import type { StorePolicy } from '../../src/shared/state/store.ts'
import type {
  AdapterServices,
  CallContext,
  PreparedCall,
} from '../../src/worker/adapters/adapter.ts'
import { isJsonObject } from '../../src/worker/adapters/dot-path.ts'
import { prepareToolCall } from '../../src/worker/adapters/tool-calls.ts'
import { openDigestPool } from '../../src/worker/files/digest-pool.ts'
import { openMemoryStore } from '../support/memory-store.ts'
import { POLICY } from './files-fixture.ts'

/** Fields of the server, in the spelling of the configuration file. */
export type ServerOverrides = { readonly upstream?: object; readonly [field: string]: unknown }

/** What a configuration is made of. */
export interface ConfigParts {
  readonly server?: ServerOverrides
  /** Other sections. */
  readonly rest?: object
}

/** The configuration of one server called `docs`, through the real loader. */
export function configOf(parts: ConfigParts): Config {
  const { upstream, ...server } = parts.server ?? {}
  const document = {
    servers: [
      {
        id: 'docs',
        mount_path: '/mcp/docs',
        upstream: { url: 'http://127.0.0.1:9/mcp', ...upstream },
        ...server,
      },
    ],
    ...parts.rest,
  }
  return parseConfig({ text: JSON.stringify(document), path: 'test', env: {} }).config
}

/** What tests hold. */
export interface Fixture {
  readonly context: CallContext
  /** The same server in another session. */
  readonly stranger: CallContext
  /** Holds `root` (the storage), `workspace` and `outside`. Real path. */
  readonly dir: string
  readonly workspace: string
  readonly services: AdapterServices
  /** Stores a file as an upload of a session and answers its handle. */
  readonly upload: (key: SessionKey, filename: string, content: string) => Promise<string>
  /** Lets the store's clock go on. */
  readonly passTime: (ms: number) => void
  /** Writes a file anywhere below `dir`. */
  readonly write: (path: string, content: string | Uint8Array) => Promise<string>
}

/** What can differ. */
export interface FixtureOptions {
  readonly adapters: readonly object[]
  readonly server?: ServerOverrides
  readonly rest?: object
  readonly storage?: object
  readonly policy?: Partial<StorePolicy>
  readonly workspace?: boolean
}

/** Opens everything; closed and removed when the test ends. */
export async function openFixture(
  t: { teardown(end: () => Promise<void>): void },
  options: FixtureOptions,
): Promise<Fixture> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'adapters-')))
  const workspace = join(dir, 'workspace')
  const root = join(dir, 'root')
  await Promise.all([workspace, root].map((path) => mkdir(path)))
  const config = configOf({
    server: {
      ...options.server,
      adapters: options.adapters,
      upstream: {
        ...options.server?.upstream,
        ...(options.workspace === false ? {} : { workspace_root: workspace }),
      },
    },
    rest: { ...options.rest, storage: { root, ...options.storage } },
  })
  let skewMs = 0
  const store = openMemoryStore({ ...POLICY, ...options.policy }, () => Date.now() + skewMs)
  const digests = openDigestPool()
  const files = new FileStore({ root, atomicWrites: false })
  const signer = new UrlSigner({ secrets: ['a secret of the tests'] })
  const services = { config, store, files, signer, digests }
  const contexts = await Promise.all([openContext(services), openContext(services)])
  t.teardown(async () => {
    await digests.close()
    await store.close()
    await rm(dir, { recursive: true, force: true })
  })
  const write = async (path: string, content: string | Uint8Array) => {
    const absolute = join(dir, path)
    await mkdir(dirname(absolute), { recursive: true })
    await writeFile(absolute, content)
    return absolute
  }
  return {
    context: contexts[0],
    stranger: contexts[1],
    dir,
    workspace,
    services,
    write,
    passTime: (ms) => {
      skewMs += ms
    },
    upload: (key, filename, content) => upload(services, key, filename, content),
  }
}

/** Prepares a call that must go upstream. */
export async function prepared(
  context: CallContext,
  toolName: string,
  args: unknown,
  protocolVersion?: string,
): Promise<PreparedCall> {
  const params = { name: toolName, arguments: args }
  const preparation = await prepareToolCall(context, toolName, params, protocolVersion)
  if (preparation?.kind === 'call') return preparation.call
  if (preparation?.kind === 'params') {
    return {
      params: preparation.params,
      finish: async (result) => ({ result, artifactsChanged: false }),
      abandon: async () => {},
    }
  }
  throw new Error(`the call was not prepared: ${JSON.stringify(preparation)}`)
}

/** Calls a tool that answers with `text`, and answers the client's result. */
export async function callWithText(
  context: CallContext,
  toolName: string,
  text: string,
): Promise<JsonObject> {
  const call = await prepared(context, toolName, {})
  const finished = await call.finish({ content: [{ type: 'text', text }] })
  return finished.result
}

/** The text of a refusal before the tool ran. */
export async function refusalOf(
  context: CallContext,
  toolName: string,
  args: unknown,
): Promise<string> {
  const params = args === undefined ? { name: toolName } : { name: toolName, arguments: args }
  const preparation = await prepareToolCall(context, toolName, params)
  if (preparation?.kind === 'result' && preparation.result['isError'] === true) {
    return firstText(preparation.result)
  }
  throw new Error(`the call was not refused: ${JSON.stringify(preparation)}`)
}

/** The first text block of a result. */
export function firstText(result: JsonObject): string {
  const [block] = blocksOf(result)
  return String(block?.['text'])
}

/** The content blocks of a result. */
export function blocksOf(result: JsonObject): readonly JsonObject[] {
  const { content } = result
  if (!Array.isArray(content)) throw new Error(`no content: ${JSON.stringify(result)}`)
  return content.filter(isJsonObject)
}

/** A value inside raw JSON; undefined where there is none. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let node = value
  for (const name of path) node = isJsonObject(node) ? node[name] : undefined
  return node
}

/** The path that a prepared call tells the tool to write to, or to read, in the argument `name`. */
export function pathOf(call: Pick<PreparedCall, 'params'>, name = 'path'): string {
  const path = at(call.params, 'arguments', name)
  if (typeof path !== 'string') throw new Error(`no path: ${JSON.stringify(call.params)}`)
  return path
}

/** `_meta.artifact` of a result. */
export function artifactMeta(result: JsonObject): JsonObject | undefined {
  const meta = at(result, '_meta', 'artifact')
  return isJsonObject(meta) ? meta : undefined
}

/** The text of the artifact that a result tells of. */
export async function contentOf(context: CallContext, result: JsonObject): Promise<string> {
  const { store, files } = context.services
  const all = await store.listArtifacts(context.key)
  const id = artifactMeta(result)?.['artifact_id']
  const artifact = all.find(({ artifactId }) => artifactId === id)
  if (artifact === undefined) throw new Error(`no artifact: ${JSON.stringify(result)}`)
  const ref: FileRef = { ...context.key, kind: 'artifacts', id: artifact.artifactId }
  return readFile(files.itemPath(ref, artifact.filename), 'utf8')
}

/** How many artifacts there are on disk (of this session) and in the store. */
export async function leftovers(context: CallContext): Promise<{ files: number; records: number }> {
  const { files, store } = context.services
  const items = await readdir(join(files.sessionDir(context.key), 'artifacts')).catch(() => [])
  const inventory = await store.inventory()
  return { files: items.length, records: inventory.artifacts + inventory.pendingArtifacts }
}

async function openContext(services: AdapterServices): Promise<CallContext> {
  const [server] = services.config.servers
  if (server === undefined) throw new Error('the configuration has no server')
  const key = { serverId: server.id, sessionId: mintSessionId() }
  await services.store.openSession({
    ...key,
    schemaVersion: 1,
    createdAtMs: Date.now(),
    protocolVersion: '2025-11-25',
    upstreamSessionId: null,
    initializeParams: {},
    upstreamHas: { tools: true, resources: false },
  })
  return { services, server, key, baseUrl: 'https://mcp.example.com' }
}

async function upload(
  services: AdapterServices,
  key: SessionKey,
  filename: string,
  content: string,
): Promise<string> {
  const { store, files, config } = services
  const uploadId = mintUploadId()
  const sizeBytes = Buffer.byteLength(content)
  const reserved = await store.reserveBytes(key, sizeBytes)
  if (!reserved.ok) throw new Error(reserved.reason)
  const ref: FileRef = { ...key, kind: 'uploads', id: uploadId }
  await files.createItemDir(ref)
  await writeFile(files.itemPath(ref, filename), content)
  const sha256 = createHash('sha256').update(content).digest('hex')
  const record = { uploadId, filename, mimeType: 'text/plain', sizeBytes, sha256 }
  const committed = await store.commitUploads(key, reserved.reservationId, [
    { ...record, createdAtMs: Date.now() },
  ])
  if (!committed.ok) throw new Error(committed.reason)
  return `${config.uploads.uriScheme}sessions/${key.sessionId}/${uploadId}`
}
